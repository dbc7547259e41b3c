//! Arguments of the form `--name value`.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;

/// Exit code for wrong arguments, as sysexits has it.
const USAGE: u8 = 64;

/// What is wrong with the arguments, in words for a person.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl UsageError {
    /// Something that the arguments do not say, or say wrongly.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The arguments of a program, each of which is taken once.
#[derive(Debug)]
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads pairs of `--name value`.
    ///
    /// # Errors
    /// When a name lacks its dashes or its value, or comes twice.
    pub fn new(words: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let mut values = BTreeMap::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| UsageError(format!("unexpected '{word}'")))?;
            let value = words.next().ok_or_else(|| UsageError(format!("{word} needs a value")))?;
            if values.insert(name.to_owned(), value).is_some() {
                return Err(UsageError(format!("{word} is given twice")));
            }
        }
        Ok(Self(values))
    }

    /// Takes a value, or `default` when it is not given.
    ///
    /// # Errors
    /// When it is given and no `T`.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, UsageError> {
        self.0.remove(name).map_or(Ok(default), |text| parse(name, &text))
    }

    /// Takes a value that must be given.
    ///
    /// # Errors
    /// When it is not, or is no `T`.
    pub fn need<T: FromStr>(&mut self, name: &str) -> Result<T, UsageError> {
        let text = self.0.remove(name).ok_or_else(|| UsageError(format!("--{name} must be given")))?;
        parse(name, &text)
    }

    /// Takes a list with commas between its elements; empty when it is not given.
    ///
    /// # Errors
    /// When an element is no `T`.
    pub fn take_list<T: FromStr>(&mut self, name: &str) -> Result<Vec<T>, UsageError> {
        let text = self.0.remove(name).unwrap_or_default();
        text.split(',').filter(|element| !element.is_empty()).map(|element| parse(name, element)).collect()
    }

    /// Nothing may be left: a misspelt name is not a default.
    ///
    /// # Errors
    /// When something is.
    pub fn finish(self) -> Result<(), UsageError> {
        match self.0.into_keys().next() {
            Some(name) => Err(UsageError(format!("--{name} is not known here"))),
            None => Ok(()),
        }
    }
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T, UsageError> {
    text.parse().map_err(|_| UsageError(format!("--{name} cannot be '{text}'")))
}

/// The end of a program: 0, 64 for wrong arguments, 1 for any other failure, told on stderr.
pub fn exit_code(program: &str, usage: &str, result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    use std::io::Write;
    let Err(error) = result else { return ExitCode::SUCCESS };
    let is_usage = error.is::<UsageError>();
    let usage = if is_usage { usage } else { "" };
    // Where stderr is gone there is nobody to tell.
    let _untold = writeln!(std::io::stderr(), "{program}: {error}{usage}");
    ExitCode::from(if is_usage { USAGE } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Result<Arguments, UsageError> {
        Arguments::new(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_given_wins_over_the_default() {
        let mut given = arguments("--rate 500 --watch 3,4").unwrap();
        assert_eq!(given.take("rate", 1_u32), Ok(500));
        assert_eq!(given.take("seconds", 2_u32), Ok(2));
        assert_eq!(given.take_list("watch"), Ok(vec![3_u32, 4]));
        assert_eq!(given.finish(), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(arguments("rate").unwrap_err().to_string().contains("rate"));
        assert!(arguments("--rate").unwrap_err().to_string().contains("--rate"));
        assert!(arguments("--rate 1 --rate 2").unwrap_err().to_string().contains("twice"));
        assert!(arguments("--rate x").unwrap().take("rate", 1_u32).is_err());
        assert!(arguments("").unwrap().need::<u16>("port").is_err());
        assert!(arguments("--raet 1").unwrap().finish().unwrap_err().to_string().contains("raet"));
    }
}
