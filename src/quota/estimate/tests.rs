use super::*;

const REFERENCE: &str = include_str!("../../../tests/fixtures/tokens/reference.tsv");
const DOCUMENT: &str = include_str!("../../../docs/ESTIMATE.md");

/// The texts of the promise, and after them those that only the table tells of.
const PROMISED: [(&str, &str); 9] = [
    ("english", include_str!("../../../tests/fixtures/tokens/english.txt")),
    ("code", include_str!("../../../tests/fixtures/tokens/code.txt")),
    ("json", include_str!("../../../tests/fixtures/tokens/json.txt")),
    ("chinese", include_str!("../../../tests/fixtures/tokens/chinese.txt")),
    ("japanese", include_str!("../../../tests/fixtures/tokens/japanese.txt")),
    ("arabic", include_str!("../../../tests/fixtures/tokens/arabic.txt")),
    ("emoji", include_str!("../../../tests/fixtures/tokens/emoji.txt")),
    ("base64", include_str!("../../../tests/fixtures/tokens/base64.txt")),
    ("tools", include_str!("../../../tests/fixtures/tokens/tools.txt")),
];
const FURTHER: [(&str, &str); 3] = [
    ("german", include_str!("../../../tests/fixtures/tokens/german.txt")),
    ("korean", include_str!("../../../tests/fixtures/tokens/korean.txt")),
    ("russian", include_str!("../../../tests/fixtures/tokens/russian.txt")),
];

/// What the two tokenizers count: o200k, SmolLM2.
fn counted(text: &str) -> (u64, u64) {
    let row = REFERENCE.lines().find(|line| line.split('\t').next() == Some(text)).unwrap();
    let counts: Vec<u64> = row.split('\t').skip(1).map(|count| count.parse().unwrap()).collect();
    (counts[0], counts[1])
}

/// How far the estimate is off, in percent.
fn error(estimate: u64, counted: u64) -> f64 {
    (estimate as f64 / counted as f64 - 1.0) * 100.0
}

fn row((name, text): &(&str, &str)) -> String {
    let ((o200k, smollm2), estimate) = (counted(name), text_tokens(text));
    format!(
        "| {name} | {} | {o200k} | {} | {:+.0} % | {smollm2} | {} | {:+.0} % |",
        text.len(),
        estimate.large,
        error(estimate.large, o200k),
        estimate.small,
        error(estimate.small, smollm2),
    )
}

#[test]
fn the_estimate_is_within_the_promised_error_of_both_references() {
    for (name, text) in PROMISED {
        let ((o200k, smollm2), estimate) = (counted(name), text_tokens(text));
        for (vocabulary, estimate, counted) in
            [("o200k", estimate.large, o200k), ("SmolLM2", estimate.small, smollm2)]
        {
            let off = error(estimate, counted);
            assert!(off.abs() <= 15.0, "{name}: {estimate} for {counted} by {vocabulary}: {off:+.1} %");
        }
    }
}

#[test]
fn the_document_tells_the_errors_that_the_code_has() {
    let rows: Vec<String> = PROMISED.iter().chain(&FURTHER).map(row).collect();
    let told: Vec<&str> = DOCUMENT.lines().filter(|line| line.ends_with(" % |")).collect();
    assert_eq!(told, rows, "the table of docs/ESTIMATE.md should be\n{}", rows.join("\n"));
}

/// The estimate of a text in which the scripts change all the time is the sum of its parts, up to the seams.
#[test]
fn a_mixed_text_costs_about_what_its_parts_do() {
    let lines = |text: &'static str| text.lines().filter(|line| !line.is_empty());
    let [english, chinese, arabic] =
        ["english", "chinese", "arabic"].map(|name| PROMISED.iter().find(|text| text.0 == name).unwrap().1);
    let mixed: Vec<&str> = lines(english)
        .zip(lines(chinese))
        .zip(lines(arabic))
        .flat_map(|((english, chinese), arabic)| [english, chinese, arabic])
        .collect();
    let apart = mixed.iter().map(|line| text_tokens(line).small).sum::<u64>();
    let together = text_tokens(&mixed.join("\n")).small;
    assert!(together.abs_diff(apart) * 20 <= apart, "{together} against {apart}");
}

#[test]
fn nothing_costs_nothing_and_anything_something() {
    assert_eq!(text_tokens(""), InputTokens::default());
    for text in ["a", "A", "7", "\n", ".", "é", "ж", "ก", "字", "글", "🙂", "か"] {
        assert!(input_tokens(text) >= 1, "{text:?}");
    }
}

#[test]
fn indentation_and_rules_merge() {
    assert!(text_tokens(&" ".repeat(120)).large <= 12);
    assert!(text_tokens(&"-".repeat(80)).large <= 21);
}

#[test]
fn scripts_are_told_apart_by_the_second_byte_where_needed() {
    for (cheap, dear) in [("กกกก", "ཀཀཀཀ"), ("——", "→→"), ("かかかか", "㌀㌀㌀㌀")]
    {
        let (cheap, dear) = (text_tokens(cheap), text_tokens(dear));
        assert!(cheap.large <= dear.large && cheap != dear, "{cheap:?}, {dear:?}");
    }
}

/// An attacker may look for the text that costs most for its length, to owe us tokens: every byte counts something.
#[test]
fn no_long_run_is_free() {
    let runs =
        ["a", "A", "aA", "a1", "1", ".", "\t", "\n", "\r\n", "é", "字", "🙂", "\u{fe0f}", "_a", "a.", " a"];
    for run in runs {
        let text = run.repeat(3_000 / run.len());
        assert!(input_tokens(&text) >= 3_000 / 100, "{run:?}: {}", input_tokens(&text));
    }
}

fn many(calibration: &mut Calibration, input: InputTokens, reported: u64) {
    (0..200).for_each(|_| calibration.note(input, reported));
}

const AGREED: InputTokens = InputTokens { large: 1_000, small: 1_000, images: 0 };
const APART: InputTokens = InputTokens { large: 1_000, small: 2_400, images: 0 };

#[test]
fn a_known_family_starts_at_its_reference() {
    assert_eq!(Calibration::new(Vocabulary::Large).tokens(APART), 1_000);
    assert_eq!(Calibration::new(Vocabulary::Small).tokens(APART), 2_400);
    assert_eq!(Calibration::new(Vocabulary::Small).upper_edge(APART), 2_760);
    let unknown = Calibration::new(Vocabulary::Unknown);
    assert_eq!((unknown.tokens(APART), unknown.upper_edge(APART)), (1_700, 2_760));
}

/// For every kind of text of the promise and either tokenizer, whatever the family was taken for at first.
#[test]
fn reports_close_the_gap_to_the_family_that_answers() {
    for is_small in [false, true] {
        let mut calibration = Calibration::new(Vocabulary::Unknown);
        let reported = |name: &str| if is_small { counted(name).1 } else { counted(name).0 };
        for _ in 0..100 {
            for (name, text) in PROMISED {
                calibration.note(text_tokens(text), reported(name));
            }
        }
        for (name, text) in PROMISED {
            let off = error(calibration.tokens(text_tokens(text)), reported(name));
            assert!(off.abs() <= 15.0, "{name}: {off:+.1} %, {calibration:?}");
        }
    }
}

#[test]
fn the_ratio_and_the_overhead_are_learned_apart() {
    let mut calibration = Calibration::new(Vocabulary::Large);
    let short = InputTokens::certain(20);
    (0..300).for_each(|_| {
        calibration.note(short, 94);
        calibration.note(AGREED, 1_270);
    });
    assert!(calibration.tokens(short).abs_diff(94) <= 2, "{calibration:?}");
    assert!(calibration.tokens(AGREED).abs_diff(1_270) <= 20, "{calibration:?}");
    assert!(calibration.tokens(InputTokens::certain(4_000)).abs_diff(4_870) <= 100, "{calibration:?}");
}

#[test]
fn one_wrong_report_changes_next_to_nothing() {
    for absurd in [1, u64::MAX] {
        for input in [AGREED, APART, InputTokens::certain(10)] {
            let mut calibration = Calibration::new(Vocabulary::Large);
            let before = calibration.tokens(AGREED);
            calibration.note(input, absurd);
            assert!(calibration.tokens(AGREED).abs_diff(before) <= 20, "{calibration:?}");
        }
    }
}

#[test]
fn an_upstream_that_always_lies_stays_within_bounds() {
    for vocabulary in [Vocabulary::Large, Vocabulary::Small, Vocabulary::Unknown] {
        let mut calibration = Calibration::new(vocabulary);
        for input in [AGREED, APART, InputTokens::certain(10)] {
            many(&mut calibration, input, 1);
        }
        assert!(calibration.upper_edge(AGREED) >= 800, "{calibration:?}");
        for input in [AGREED, APART, InputTokens::certain(10)] {
            many(&mut calibration, input, u64::MAX);
        }
        assert!(calibration.upper_edge(AGREED) <= 2_600, "{calibration:?}");
    }
}

#[test]
fn what_says_nothing_teaches_nothing() {
    let mut calibration = Calibration::new(Vocabulary::Unknown);
    calibration.note(AGREED, 0);
    calibration.note(InputTokens::default(), 500);
    assert_eq!(calibration, Calibration::new(Vocabulary::Unknown));
}

#[test]
fn an_unknown_vocabulary_reserves_by_the_dearer_one_until_it_has_settled() {
    let mut calibration = Calibration::new(Vocabulary::Unknown);
    calibration.note(APART, 1_000);
    assert_eq!(calibration.upper_edge(APART), 2_760);
    many(&mut calibration, APART, 1_000);
    assert_eq!(calibration.upper_edge(APART), 1_150);
}
