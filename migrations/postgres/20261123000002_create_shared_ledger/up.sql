-- The budgets that all replicas share. Only the functions below write here; docs/adr/0005 says why they decide.
--
-- All instants are microseconds since the Unix epoch on this server's clock, as ledger_now() tells it. Replicas send
-- durations, and the resets of calendar windows, which are facts of the calendar.
--
-- Order of locks, the same in every function: rows of ledger_limits by id, ledger_cooldowns by key, ledger_attempts
-- by id, then the rest, which only holders of the limit's lock change (besides deletions of a replica's own holds and
-- of what has expired, which skip what is locked).

-- One limit on one account. All limits with the same provider, account, scope and unit are a group: what one replica
-- takes is charged to every limit of the group, so that while replicas differ the smaller and the longer one holds.
CREATE TABLE ledger_limits (
    id BIGSERIAL PRIMARY KEY,
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    scope TEXT NOT NULL,
    unit TEXT NOT NULL,
    -- The window's name, for example sliding:60006000, day@UTC, in_flight.
    span TEXT NOT NULL,
    -- How long the window is at most; 0 for what only counts what is in flight.
    length_us BIGINT NOT NULL CHECK (length_us >= 0),
    is_calendar BOOLEAN NOT NULL,
    -- Of a calendar window: the resets around now, ascending.
    resets_us BIGINT[] NOT NULL,
    -- Nothing is granted before.
    blocked_until_us BIGINT NOT NULL DEFAULT 0,
    -- Whether the group was used while nobody used this limit, so that it misses holds.
    is_stale BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (provider, account, scope, unit, span)
);

-- What replicas say that a limit's maximum is, and when one last said so. The smallest of the last minute binds.
CREATE TABLE ledger_maxima (
    limit_id BIGINT NOT NULL,
    max BIGINT NOT NULL CHECK (max > 0),
    used_us BIGINT NOT NULL,
    PRIMARY KEY (limit_id, max)
);

-- What attempts hold whose part in this limit may still change. free_at_us is when it ends should nobody say another
-- word: the crash cap.
CREATE TABLE ledger_holds (
    limit_id BIGINT NOT NULL,
    attempt_id UUID NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    -- How much of amount the attempt's end may give back at once.
    returnable BIGINT NOT NULL CHECK (returnable >= 0),
    free_at_us BIGINT NOT NULL,
    PRIMARY KEY (limit_id, attempt_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX ledger_holds_by_attempt ON ledger_holds (attempt_id);
CREATE INDEX ledger_holds_by_end ON ledger_holds (free_at_us);

-- What is held for good until an instant, added up: at most about a thousand rows per limit.
CREATE TABLE ledger_slots (
    limit_id BIGINT NOT NULL,
    free_at_us BIGINT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount > 0),
    PRIMARY KEY (limit_id, free_at_us)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX ledger_slots_by_end ON ledger_slots (free_at_us);

-- Attempts that hold something, and those that may never (voided: the tombstones). One key for both, so that of a
-- reserve and a release of the same attempt that run at the same time, the later one sees the other.
CREATE TABLE ledger_attempts (
    id UUID PRIMARY KEY,
    is_voided BOOLEAN NOT NULL,
    expires_us BIGINT NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX ledger_attempts_by_expiry ON ledger_attempts (expires_us);

-- Accounts, and models on them (scope), that are left alone. The row outlives its instant: who is granted first after
-- it is the probe, and only the probe's success removes the row.
CREATE TABLE ledger_cooldowns (
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    scope TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    reason TEXT NOT NULL,
    probe_id UUID,
    -- Another attempt may be the probe from here on.
    probe_until_us BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (provider, account, scope)
);

-- Counts calls. A number lower than one seen before tells that this database was restored from an older copy.
CREATE SEQUENCE ledger_serial;

-- The one clock of the ledger. Tests replace this function. clock_timestamp() and not now(), which would tell when
-- the transaction began: before it waited for its locks.
CREATE FUNCTION ledger_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT
$$;

-- The functions below rely on each statement seeing what was committed before it.
CREATE FUNCTION ledger_require_read_committed() RETURNS VOID LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the ledger needs transactions of isolation level read committed';
    END IF;
END
$$;

-- When units that upstream counted at last_us at the latest are free again. A calendar window's clock may be 5 s off
-- either way: what was counted less than 5 s before a reset may count after it, and a reset may come 5 s late.
CREATE FUNCTION ledger_free_at(is_calendar BOOLEAN, length_us BIGINT, resets_us BIGINT[], last_us BIGINT)
RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN is_calendar THEN
        coalesce((SELECT min(reset) FROM unnest(resets_us) AS reset WHERE reset > last_us + 5000000),
                 last_us + 5000000 + length_us) + 5000000
    ELSE last_us + length_us END
$$;

-- The slot that an end belongs to: exact for a maximum of up to 1024 units, whose log is no longer than its maximum;
-- above that rounded up to a 1024th of the window, 1 ms at least.
CREATE FUNCTION ledger_slot(max BIGINT, length_us BIGINT, free_at_us BIGINT)
RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN max <= 1024 THEN free_at_us
    ELSE (free_at_us + greatest(length_us / 1024, 1000) - 1) / greatest(length_us / 1024, 1000)
         * greatest(length_us / 1024, 1000) END
$$;

-- Everything held of a limit at an instant.
CREATE FUNCTION ledger_held(of_limit BIGINT, at_us BIGINT) RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
    SELECT least(
        (SELECT coalesce(sum(amount), 0) FROM ledger_holds WHERE limit_id = of_limit AND free_at_us > at_us)
        + (SELECT coalesce(sum(amount), 0) FROM ledger_slots WHERE limit_id = of_limit AND free_at_us > at_us),
        4611686018427387904)::BIGINT
$$;

-- Decides a batch of claims of one provider, in their order: each is granted whole on the first of its accounts that
-- has room in every limit, or takes nothing.
--
-- batch: {provider, groups: [{account, scope, unit, limits: [{span, length_us, resets_us?, max}]}],
--         claims: [{id, send_within_us, probe_us, accounts: [{account, cooldowns: [scope],
--                   lines: [[group, amount, cap_us, returnable, leave]]}]}]}
--   cap_us: from the latest instant of sending to the last at which upstream can count, should the replica die;
--   leave: how much must be left over (leases). Groups are numbered from 0; a group is named once.
-- answer: {now_us, serial, verdicts: [{verdict, …}], blocked: [[group, amount, in_us]],
--          cooling: [[account, scope, in_us, is_probed]]}
--   granted {account, probe} | refused {in_us} | too_large | unknown (introduce its limits first) | void
CREATE FUNCTION ledger_reserve(batch JSONB) RETURNS JSONB LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    of_provider CONSTANT TEXT := batch ->> 'provider';
    now_us BIGINT;
    locked BIGINT[];
    entry RECORD;
    -- One element per limit of the batch, by group; first and last limit of each group.
    ids BIGINT[] := '{}';
    group_of INT[] := '{}';
    spans TEXT[] := '{}';
    lengths BIGINT[] := '{}';
    maxima BIGINT[] := '{}';
    held BIGINT[] := '{}';
    blocked BIGINT[] := '{}';
    firsts INT[];
    lasts INT[];
    is_unknown BOOLEAN[];
    cooling JSONB := '{}';
    -- The claim at hand.
    claim RECORD;
    candidate RECORD;
    line JSONB;
    wanted BIGINT;
    fits BOOLEAN;
    any_unknown BOOLEAN;
    any_possible BOOLEAN;
    chosen INT;
    is_probe BOOLEAN;
    key TEXT;
    scope_name TEXT;
    last_us BIGINT;
    free_us BIGINT;
    latest_us BIGINT;
    -- What was granted: attempts, holds, probes.
    granted_ids UUID[] := '{}';
    granted_claims INT[] := '{}';
    granted_until BIGINT[] := '{}';
    hold_ids UUID[] := '{}';
    hold_limits INT[] := '{}';
    hold_amounts BIGINT[] := '{}';
    hold_returnable BIGINT[] := '{}';
    hold_free BIGINT[] := '{}';
    probe_ids UUID[] := '{}';
    probe_accounts TEXT[] := '{}';
    probe_scopes TEXT[] := '{}';
    probe_until BIGINT[] := '{}';
    fresh UUID[];
    -- What stood in the way: claim, account, limit (or none), units, known instant (or none).
    in_claims INT[] := '{}';
    in_accounts INT[] := '{}';
    in_limits INT[] := '{}';
    in_amounts BIGINT[] := '{}';
    in_until BIGINT[] := '{}';
    verdicts JSONB[] := '{}';
    obstacles JSONB := '[]';
BEGIN
    PERFORM ledger_require_read_committed();

    -- The locks, in a statement of their own: what follows sees all that was committed before the last was given.
    WITH locks AS (
        SELECT l.id FROM ledger_limits l
        JOIN jsonb_to_recordset(batch -> 'groups') AS g(account TEXT, scope TEXT, unit TEXT)
          ON l.provider = of_provider AND l.account = g.account AND l.scope = g.scope AND l.unit = g.unit
        ORDER BY l.id FOR UPDATE OF l
    )
    SELECT coalesce(array_agg(id), '{}') INTO locked FROM locks;
    FOR entry IN
        SELECT c.account, c.scope, c.until_us, c.probe_until_us, c.probe_id FROM ledger_cooldowns c
        WHERE c.provider = of_provider
          AND c.account IN (SELECT a.value ->> 'account' FROM jsonb_array_elements(batch -> 'claims') AS q,
                            jsonb_array_elements(q.value -> 'accounts') AS a)
        ORDER BY c.account, c.scope FOR UPDATE OF c
    LOOP
        cooling := cooling || jsonb_build_object(entry.account || chr(31) || entry.scope,
            jsonb_build_array(entry.until_us, CASE WHEN entry.probe_id IS NULL THEN 0 ELSE entry.probe_until_us END));
    END LOOP;
    now_us := ledger_now();

    -- The definitions that came along. Written at most every 10 s: a minute is what they last.
    INSERT INTO ledger_maxima AS m (limit_id, max, used_us)
    SELECT DISTINCT l.id, d.max, now_us
    FROM jsonb_array_elements(batch -> 'groups') AS g
    CROSS JOIN LATERAL jsonb_to_recordset(g.value -> 'limits') AS d(span TEXT, max BIGINT)
    JOIN ledger_limits l ON l.provider = of_provider AND l.account = g.value ->> 'account'
        AND l.scope = g.value ->> 'scope' AND l.unit = g.value ->> 'unit' AND l.span = d.span
    WHERE l.id = ANY (locked) AND NOT l.is_stale AND NOT EXISTS (
        SELECT FROM ledger_maxima x WHERE x.limit_id = l.id AND x.max = d.max AND x.used_us > now_us - 10000000)
    ON CONFLICT (limit_id, max) DO UPDATE SET used_us = greatest(m.used_us, excluded.used_us);
    UPDATE ledger_limits l SET resets_us = (
        SELECT array_agg(DISTINCT r ORDER BY r) FROM unnest(l.resets_us || d.resets_us) AS r
        WHERE r > now_us - 86400000000)
    FROM jsonb_array_elements(batch -> 'groups') AS g
    CROSS JOIN LATERAL jsonb_to_recordset(g.value -> 'limits') AS d(span TEXT, resets_us BIGINT[])
    WHERE l.provider = of_provider AND l.account = g.value ->> 'account' AND l.scope = g.value ->> 'scope'
      AND l.unit = g.value ->> 'unit' AND l.span = d.span AND l.id = ANY (locked) AND l.is_calendar
      AND NOT d.resets_us <@ l.resets_us;

    -- What is held of every limit that binds: also of those that only other replicas know.
    firsts := array_fill(1, ARRAY[jsonb_array_length(batch -> 'groups')]);
    lasts := array_fill(0, ARRAY[jsonb_array_length(batch -> 'groups')]);
    is_unknown := array_fill(FALSE, ARRAY[jsonb_array_length(batch -> 'groups')]);
    FOR entry IN
        SELECT g.ordinality::INT AS number, l.id, l.span, l.length_us, l.blocked_until_us, m.max,
               ledger_held(l.id, now_us) AS held
        FROM jsonb_array_elements(batch -> 'groups') WITH ORDINALITY AS g
        JOIN ledger_limits l ON l.provider = of_provider AND l.account = g.value ->> 'account'
            AND l.scope = g.value ->> 'scope' AND l.unit = g.value ->> 'unit'
        CROSS JOIN LATERAL (SELECT min(x.max) AS max FROM ledger_maxima x
                            WHERE x.limit_id = l.id AND x.used_us > now_us - 60000000) AS m
        WHERE m.max IS NOT NULL AND NOT l.is_stale
        ORDER BY g.ordinality, l.id
    LOOP
        ids := ids || entry.id;
        group_of := group_of || entry.number;
        spans := spans || entry.span;
        lengths := lengths || entry.length_us;
        maxima := maxima || entry.max;
        held := held || entry.held;
        blocked := blocked || entry.blocked_until_us;
        IF lasts[entry.number] = 0 THEN
            firsts[entry.number] := array_length(ids, 1);
        END IF;
        lasts[entry.number] := array_length(ids, 1);
        -- Introduced since the locks were taken: not ours to charge yet.
        IF NOT entry.id = ANY (locked) THEN
            is_unknown[entry.number] := TRUE;
        END IF;
    END LOOP;
    -- What was read above decides, not a second look: another replica may have introduced the limit in between, which
    -- would make it known and yet charge nothing.
    FOR entry IN
        SELECT g.ordinality::INT AS number
        FROM jsonb_array_elements(batch -> 'groups') WITH ORDINALITY AS g
        CROSS JOIN LATERAL jsonb_to_recordset(g.value -> 'limits') AS d(span TEXT)
        WHERE NOT EXISTS (SELECT FROM unnest(group_of, spans) AS known(number, span)
                          WHERE known.number = g.ordinality AND known.span = d.span)
    LOOP
        is_unknown[entry.number] := TRUE;
    END LOOP;

    FOR claim IN SELECT c.value AS body, c.ordinality::INT AS number
                 FROM jsonb_array_elements(batch -> 'claims') WITH ORDINALITY AS c
    LOOP
        chosen := NULL;
        any_unknown := FALSE;
        any_possible := FALSE;
        <<accounts>>
        FOR candidate IN SELECT a.value AS body, (a.ordinality - 1)::INT AS number, a.value ->> 'account' AS account
                         FROM jsonb_array_elements(claim.body -> 'accounts') WITH ORDINALITY AS a
        LOOP
            fits := TRUE;
            FOR line IN SELECT value FROM jsonb_array_elements(candidate.body -> 'lines') LOOP
                IF is_unknown[(line ->> 0)::INT + 1] THEN
                    any_unknown := TRUE;
                    CONTINUE accounts;
                END IF;
                FOR i IN firsts[(line ->> 0)::INT + 1] .. lasts[(line ->> 0)::INT + 1] LOOP
                    CONTINUE accounts WHEN (line ->> 1)::BIGINT + (line ->> 4)::BIGINT > maxima[i];
                END LOOP;
            END LOOP;
            any_possible := TRUE;
            FOR line IN SELECT value FROM jsonb_array_elements(candidate.body -> 'lines') LOOP
                wanted := (line ->> 1)::BIGINT + (line ->> 4)::BIGINT;
                FOR i IN firsts[(line ->> 0)::INT + 1] .. lasts[(line ->> 0)::INT + 1] LOOP
                    IF blocked[i] > now_us OR wanted > maxima[i] - held[i] THEN
                        fits := FALSE;
                        in_claims := in_claims || claim.number;
                        in_accounts := in_accounts || candidate.number;
                        in_limits := in_limits || i;
                        in_amounts := in_amounts || wanted;
                        in_until := in_until || CASE WHEN blocked[i] > now_us THEN blocked[i] END;
                    END IF;
                END LOOP;
            END LOOP;
            is_probe := FALSE;
            FOR scope_name IN SELECT jsonb_array_elements_text(candidate.body -> 'cooldowns') LOOP
                key := candidate.account || chr(31) || scope_name;
                CONTINUE WHEN NOT cooling ? key;
                is_probe := TRUE;
                IF (cooling -> key ->> 0)::BIGINT > now_us OR (cooling -> key ->> 1)::BIGINT > now_us THEN
                    fits := FALSE;
                    in_claims := in_claims || claim.number;
                    in_accounts := in_accounts || candidate.number;
                    in_limits := in_limits || NULL::INT;
                    in_amounts := in_amounts || NULL::BIGINT;
                    -- While another attempt is the probe: as long as open attempts are worth looking at again.
                    in_until := in_until || greatest((cooling -> key ->> 0)::BIGINT, now_us + 1000000);
                END IF;
            END LOOP;
            CONTINUE accounts WHEN NOT fits;
            chosen := candidate.number;
            last_us := now_us + (claim.body ->> 'send_within_us')::BIGINT;
            latest_us := last_us;
            FOR line IN SELECT value FROM jsonb_array_elements(candidate.body -> 'lines') LOOP
                FOR i IN firsts[(line ->> 0)::INT + 1] .. lasts[(line ->> 0)::INT + 1] LOOP
                    held[i] := held[i] + (line ->> 1)::BIGINT;
                    SELECT ledger_free_at(l.is_calendar, l.length_us, l.resets_us, last_us + (line ->> 2)::BIGINT)
                    INTO free_us FROM ledger_limits l WHERE l.id = ids[i];
                    latest_us := greatest(latest_us, free_us);
                    hold_ids := hold_ids || (claim.body ->> 'id')::UUID;
                    hold_limits := hold_limits || i;
                    hold_amounts := hold_amounts || (line ->> 1)::BIGINT;
                    hold_returnable := hold_returnable || (line ->> 3)::BIGINT;
                    hold_free := hold_free || free_us;
                END LOOP;
            END LOOP;
            granted_ids := granted_ids || (claim.body ->> 'id')::UUID;
            granted_claims := granted_claims || claim.number;
            granted_until := granted_until || latest_us;
            FOR scope_name IN SELECT jsonb_array_elements_text(candidate.body -> 'cooldowns') LOOP
                key := candidate.account || chr(31) || scope_name;
                CONTINUE WHEN NOT cooling ? key;
                free_us := last_us + (claim.body ->> 'probe_us')::BIGINT;
                cooling := jsonb_set(cooling, ARRAY[key, '1'], to_jsonb(free_us));
                probe_ids := probe_ids || (claim.body ->> 'id')::UUID;
                probe_accounts := probe_accounts || candidate.account;
                probe_scopes := probe_scopes || scope_name;
                probe_until := probe_until || free_us;
            END LOOP;
            EXIT accounts;
        END LOOP;
        verdicts := verdicts || CASE
            WHEN chosen IS NOT NULL THEN
                jsonb_build_object('verdict', 'granted', 'account', chosen, 'probe', is_probe)
            WHEN any_unknown THEN jsonb_build_object('verdict', 'unknown')
            WHEN any_possible THEN jsonb_build_object('verdict', 'refused')
            ELSE jsonb_build_object('verdict', 'too_large')
        END;
    END LOOP;

    -- Of an attempt that was released meanwhile nothing is written.
    WITH written AS (
        INSERT INTO ledger_attempts (id, is_voided, expires_us)
        SELECT u.id, FALSE, u.until_us FROM unnest(granted_ids, granted_until) AS u(id, until_us) ORDER BY u.id
        ON CONFLICT (id) DO NOTHING RETURNING id
    )
    SELECT coalesce(array_agg(id), '{}') INTO fresh FROM written;
    FOR i IN 1 .. coalesce(array_length(granted_ids, 1), 0) LOOP
        IF NOT granted_ids[i] = ANY (fresh) THEN
            verdicts[granted_claims[i]] := jsonb_build_object('verdict', 'void');
        END IF;
    END LOOP;
    INSERT INTO ledger_holds (limit_id, attempt_id, amount, returnable, free_at_us)
    SELECT ids[u.i], u.id, u.amount, u.returnable, u.free_us
    FROM unnest(hold_limits, hold_ids, hold_amounts, hold_returnable, hold_free)
        AS u(i, id, amount, returnable, free_us)
    WHERE u.id = ANY (fresh);
    UPDATE ledger_cooldowns c SET probe_id = u.id, probe_until_us = u.until_us
    FROM unnest(probe_ids, probe_accounts, probe_scopes, probe_until) AS u(id, account, scope, until_us)
    WHERE c.provider = of_provider AND c.account = u.account AND c.scope = u.scope AND u.id = ANY (fresh);
    -- A limit that nobody has used for a minute was not charged: whoever uses it again must fill it first.
    IF hold_ids <> '{}' THEN
        UPDATE ledger_limits l SET is_stale = TRUE
        FROM (SELECT DISTINCT g.value ->> 'account' AS account, g.value ->> 'scope' AS scope, g.value ->> 'unit' AS unit
              FROM unnest(hold_limits) AS h(i)
              JOIN jsonb_array_elements(batch -> 'groups') WITH ORDINALITY AS g ON g.ordinality = group_of[h.i]) AS used
        WHERE l.provider = of_provider AND l.account = used.account AND l.scope = used.scope AND l.unit = used.unit
          AND l.id = ANY (locked) AND NOT l.is_stale AND NOT l.id = ANY (ids);
    END IF;

    -- When asking again makes sense: exact when nothing is open. Else an open attempt may be what gives room: where
    -- its end may give back enough, in a second; never before a window from now for units that it keeps anyway.
    IF in_claims <> '{}' THEN
        WITH pairs AS (
            SELECT DISTINCT u.i, u.amount FROM unnest(in_limits, in_amounts, in_until) AS u(i, amount, until_us)
            WHERE u.i IS NOT NULL AND u.until_us IS NULL
        ), rows AS (
            SELECT p.i, h.free_at_us, h.amount, h.returnable, 1 AS open
            FROM (SELECT DISTINCT i FROM pairs) AS p
            JOIN ledger_holds h ON h.limit_id = ids[p.i] AND h.free_at_us > now_us
            UNION ALL
            SELECT p.i, s.free_at_us, s.amount, 0, 0
            FROM (SELECT DISTINCT i FROM pairs) AS p
            JOIN ledger_slots s ON s.limit_id = ids[p.i] AND s.free_at_us > now_us
        ), freed AS (
            SELECT i, free_at_us, sum(amount) OVER (PARTITION BY i ORDER BY free_at_us) AS amount FROM rows
        ), totals AS (
            SELECT i, sum(amount) AS held, sum(returnable) AS returnable, sum(open) AS open FROM rows GROUP BY i
        ), instants AS (
            SELECT p.i, p.amount, t.open,
                (SELECT min(f.free_at_us) FROM freed f
                 WHERE f.i = p.i AND f.amount >= t.held + p.amount - maxima[p.i]) AS scheduled,
                CASE WHEN t.held + p.amount - maxima[p.i] <= t.returnable THEN now_us
                ELSE (SELECT min(f.free_at_us) FROM freed f
                      WHERE f.i = p.i AND f.amount >= t.held + p.amount - maxima[p.i] - t.returnable) END AS returned
            FROM pairs p JOIN totals t ON t.i = p.i
        ), answers AS (
            SELECT i, amount, CASE WHEN open = 0 THEN scheduled
                ELSE least(scheduled, greatest(least(returned, now_us + lengths[i]), now_us + 1000000)) END AS until_us
            FROM instants
        ), ways AS (
            SELECT u.c, u.a, u.i, u.amount,
                coalesce(u.until_us, x.until_us, now_us + 1000000) AS until_us, u.until_us IS NOT NULL AS is_told
            FROM unnest(in_claims, in_accounts, in_limits, in_amounts, in_until) AS u(c, a, i, amount, until_us)
            LEFT JOIN answers x ON x.i = u.i AND x.amount = u.amount
        ), refusals AS (
            SELECT c, min(until_us) AS until_us
            FROM (SELECT c, a, max(until_us) AS until_us FROM ways GROUP BY c, a) AS whole
            GROUP BY c
        )
        SELECT (SELECT array_agg(CASE WHEN v.body ->> 'verdict' = 'refused'
                    THEN v.body || jsonb_build_object('in_us', r.until_us - now_us) ELSE v.body END
                    ORDER BY v.number)
                FROM unnest(verdicts) WITH ORDINALITY AS v(body, number)
                LEFT JOIN refusals r ON r.c = v.number),
               (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(group_of[w.i] - 1,
                    CASE WHEN w.is_told THEN 0 ELSE w.amount END, w.until_us - now_us)), '[]')
                FROM ways w WHERE w.i IS NOT NULL)
        INTO verdicts, obstacles;
    END IF;

    RETURN jsonb_build_object('now_us', now_us, 'serial', nextval('ledger_serial'),
        'verdicts', to_jsonb(verdicts), 'blocked', obstacles,
        'cooling', (SELECT coalesce(jsonb_agg(jsonb_build_array(split_part(c.key, chr(31), 1),
                split_part(c.key, chr(31), 2), greatest((c.value ->> 0)::BIGINT, now_us + 1000000) - now_us,
                (c.value ->> 0)::BIGINT <= now_us)), '[]')
            FROM jsonb_each(cooling) AS c
            WHERE (c.value ->> 0)::BIGINT > now_us OR (c.value ->> 1)::BIGINT > now_us));
END
$$;

-- Writes down what has become known of attempts. A line that is final is moved where it stays until its end; one that
-- is not found (final before, or expired) changes nothing, so that a batch of unknown outcome may be sent again.
--
-- batch: {settlements: [{id, give_back, probe: null | 'passed' | 'left', lines: [[scope, unit, amount, last_in_us, is_final,
--                         returnable]]}]}
--   last_in_us: from now to the last instant at which upstream can have counted (negative: ago); null: still unknown;
--   give_back: nothing was sent, so that nothing is held; later settlements of a batch win.
-- answer: {now_us, settled, missing} (attempts)
CREATE FUNCTION ledger_settle(batch JSONB) RETURNS JSONB LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now_us BIGINT;
    all_ids UUID[];
    found_ids UUID[];
BEGIN
    PERFORM ledger_require_read_committed();
    SELECT coalesce(array_agg(DISTINCT (s.value ->> 'id')::UUID), '{}') INTO all_ids
    FROM jsonb_array_elements(batch -> 'settlements') AS s;

    PERFORM l.id FROM ledger_limits l
    WHERE l.id IN (SELECT h.limit_id FROM ledger_holds h WHERE h.attempt_id = ANY (all_ids))
    ORDER BY l.id FOR UPDATE;
    PERFORM c.scope FROM ledger_cooldowns c WHERE c.probe_id = ANY (all_ids)
    ORDER BY c.provider, c.account, c.scope FOR UPDATE;
    now_us := ledger_now();

    DELETE FROM ledger_cooldowns c USING jsonb_array_elements(batch -> 'settlements') AS s
    WHERE c.probe_id = (s.value ->> 'id')::UUID AND s.value ->> 'probe' = 'passed' AND c.until_us <= now_us;
    UPDATE ledger_cooldowns c SET probe_id = NULL FROM jsonb_array_elements(batch -> 'settlements') AS s
    WHERE c.probe_id = (s.value ->> 'id')::UUID AND s.value ->> 'probe' = 'left';

    SELECT coalesce(array_agg(DISTINCT attempt_id), '{}') INTO found_ids
    FROM ledger_holds WHERE attempt_id = ANY (all_ids);
    DELETE FROM ledger_holds h USING jsonb_array_elements(batch -> 'settlements') AS s
    WHERE h.attempt_id = (s.value ->> 'id')::UUID AND (s.value ->> 'give_back')::BOOLEAN;

    WITH known AS (
        SELECT DISTINCT ON (h.attempt_id, h.limit_id) h.attempt_id, h.limit_id, l.length_us, m.max,
            (line.value ->> 2)::BIGINT AS amount, (line.value ->> 4)::BOOLEAN AS is_final,
            (line.value ->> 5)::BIGINT AS returnable,
            coalesce(ledger_free_at(l.is_calendar, l.length_us, l.resets_us, now_us + (line.value ->> 3)::BIGINT),
                     h.free_at_us) AS free_us
        FROM jsonb_array_elements(batch -> 'settlements') WITH ORDINALITY AS s
        CROSS JOIN LATERAL jsonb_array_elements(s.value -> 'lines') AS line
        JOIN ledger_holds h ON h.attempt_id = (s.value ->> 'id')::UUID
        JOIN ledger_limits l ON l.id = h.limit_id
            AND l.scope = line.value ->> 0 AND l.unit = line.value ->> 1
        CROSS JOIN LATERAL (SELECT coalesce(min(x.max), 1) AS max FROM ledger_maxima x WHERE x.limit_id = l.id) AS m
        ORDER BY h.attempt_id, h.limit_id, s.ordinality DESC
    ), gone AS (
        DELETE FROM ledger_holds h USING known k
        WHERE k.is_final AND h.limit_id = k.limit_id AND h.attempt_id = k.attempt_id
    ), corrected AS (
        UPDATE ledger_holds h SET amount = k.amount, returnable = k.returnable, free_at_us = k.free_us
        FROM known k
        WHERE NOT k.is_final AND h.limit_id = k.limit_id AND h.attempt_id = k.attempt_id
    )
    INSERT INTO ledger_slots AS kept (limit_id, free_at_us, amount)
    SELECT k.limit_id, ledger_slot(k.max, k.length_us, k.free_us), sum(k.amount)
    FROM known k WHERE k.is_final AND k.amount > 0 AND k.free_us > now_us
    GROUP BY 1, 2
    ON CONFLICT (limit_id, free_at_us) DO UPDATE SET amount = kept.amount + excluded.amount;

    DELETE FROM ledger_attempts a
    WHERE a.id IN (SELECT x.id FROM ledger_attempts x WHERE x.id = ANY (all_ids) ORDER BY x.id FOR UPDATE)
      AND NOT a.is_voided
      AND NOT EXISTS (SELECT FROM ledger_holds h WHERE h.attempt_id = a.id);
    RETURN jsonb_build_object('now_us', now_us, 'settled', coalesce(array_length(found_ids, 1), 0),
        'missing', coalesce(array_length(all_ids, 1), 0) - coalesce(array_length(found_ids, 1), 0));
END
$$;

-- Takes back attempts of a reserve whose outcome is not known, also of one that has yet to commit: it waits for that
-- one's end by the key of ledger_attempts, or voids it. Takes no lock on limits, for the reserve in question holds them.
-- The tombstone stays for an hour, longer than any connection could delay a statement.
CREATE FUNCTION ledger_release(ids UUID[]) RETURNS VOID LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM ledger_require_read_committed();
    INSERT INTO ledger_attempts AS a (id, is_voided, expires_us)
    SELECT u.id, TRUE, ledger_now() + 3600000000 FROM (SELECT DISTINCT unnest(ids) AS id) AS u ORDER BY u.id
    ON CONFLICT (id) DO UPDATE SET is_voided = TRUE, expires_us = excluded.expires_us;
    DELETE FROM ledger_holds WHERE attempt_id = ANY (ids);
    UPDATE ledger_cooldowns SET probe_id = NULL WHERE probe_id = ANY (ids);
END
$$;

-- Makes limits known that a reserve called unknown, filled with what their last window must have seen.
--
-- batch: {provider, limits: [{account, scope, unit, span, length_us, is_calendar, resets_us, max, fill, models}]}
--   fill: 'statistics' | 'block' (for one window) | 'empty'; models: those in the scope, null for all.
--
-- Statistics do not name the account, so each account is taken to have made all calls. What other limits of the group
-- hold is copied: they know of attempts that statistics do not yet; statistics add what is older than those remember.
CREATE FUNCTION ledger_introduce(batch JSONB) RETURNS BIGINT LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    of_provider CONSTANT TEXT := batch ->> 'provider';
    now_us BIGINT;
    definition RECORD;
    limit_row RECORD;
    elder RECORD;
    introduced BIGINT := 0;
BEGIN
    PERFORM ledger_require_read_committed();
    -- One at a time, for a limit that is introduced in one transaction is not seen by another one to copy from.
    PERFORM pg_advisory_xact_lock(7881707423886010740);
    PERFORM l.id FROM ledger_limits l
    JOIN jsonb_to_recordset(batch -> 'limits') AS d(account TEXT, scope TEXT, unit TEXT)
      ON l.provider = of_provider AND l.account = d.account AND l.scope = d.scope AND l.unit = d.unit
    ORDER BY l.id FOR UPDATE OF l;
    now_us := ledger_now();
    FOR definition IN
        SELECT * FROM jsonb_to_recordset(batch -> 'limits') AS d(account TEXT, scope TEXT, unit TEXT, span TEXT,
            length_us BIGINT, is_calendar BOOLEAN, resets_us BIGINT[], max BIGINT, fill TEXT, models TEXT[])
    LOOP
        INSERT INTO ledger_limits AS l
            (provider, account, scope, unit, span, length_us, is_calendar, resets_us, is_stale)
        VALUES (of_provider, definition.account, definition.scope, definition.unit, definition.span,
            definition.length_us, definition.is_calendar, definition.resets_us, TRUE)
        ON CONFLICT (provider, account, scope, unit, span) DO NOTHING;
        SELECT l.* INTO limit_row FROM ledger_limits l
        WHERE l.provider = of_provider AND l.account = definition.account AND l.scope = definition.scope
          AND l.unit = definition.unit AND l.span = definition.span
        FOR UPDATE;
        INSERT INTO ledger_maxima AS m (limit_id, max, used_us) VALUES (limit_row.id, definition.max, now_us)
        ON CONFLICT (limit_id, max) DO UPDATE SET used_us = greatest(m.used_us, excluded.used_us);
        CONTINUE WHEN NOT limit_row.is_stale;
        introduced := introduced + 1;

        -- The one of the group that remembers most.
        SELECT l.* INTO elder FROM ledger_limits l
        WHERE l.provider = of_provider AND l.account = definition.account AND l.scope = definition.scope
          AND l.unit = definition.unit AND NOT l.is_stale
          AND EXISTS (SELECT FROM ledger_maxima m WHERE m.limit_id = l.id AND m.used_us > now_us - 60000000)
        ORDER BY l.is_calendar, l.length_us DESC LIMIT 1;
        -- What it held itself before it went stale stays, and may count twice: more than was used, never less.
        IF elder.id IS NOT NULL THEN
            INSERT INTO ledger_holds AS h (limit_id, attempt_id, amount, returnable, free_at_us)
            SELECT limit_row.id, o.attempt_id, o.amount, o.returnable,
                ledger_free_at(limit_row.is_calendar, limit_row.length_us, limit_row.resets_us,
                    CASE WHEN elder.is_calendar THEN o.free_at_us ELSE o.free_at_us - elder.length_us END)
            FROM ledger_holds o WHERE o.limit_id = elder.id AND o.free_at_us > now_us
            ON CONFLICT (limit_id, attempt_id) DO NOTHING;
            INSERT INTO ledger_slots AS kept (limit_id, free_at_us, amount)
            SELECT limit_row.id, ledger_slot(definition.max, limit_row.length_us,
                ledger_free_at(limit_row.is_calendar, limit_row.length_us, limit_row.resets_us,
                    CASE WHEN elder.is_calendar THEN now_us + 5000000 ELSE o.free_at_us - elder.length_us END)), sum(o.amount)
            FROM ledger_slots o WHERE o.limit_id = elder.id AND o.free_at_us > now_us
            GROUP BY 1, 2
            ON CONFLICT (limit_id, free_at_us) DO UPDATE SET amount = kept.amount + excluded.amount;
        END IF;
        IF definition.fill = 'statistics' THEN
            -- Of an event that another provider served, or nobody, all other attempts may have been ours.
            INSERT INTO ledger_slots AS kept (limit_id, free_at_us, amount)
            SELECT limit_row.id, ledger_slot(1025, greatest(limit_row.length_us, 1), used.free_us), sum(used.amount)
            FROM (
                SELECT ledger_free_at(limit_row.is_calendar, limit_row.length_us, limit_row.resets_us,
                        e.ended_us + 5000000) AS free_us,
                    CASE definition.unit WHEN 'requests' THEN 1 WHEN 'input_tokens' THEN e.input_tokens
                        WHEN 'output_tokens' THEN e.output_tokens WHEN 'tokens' THEN e.input_tokens + e.output_tokens
                        ELSE 0 END
                    * CASE WHEN e.platform IS NULL OR (e.platform = of_provider
                            AND (definition.models IS NULL OR e.model_id = ANY (definition.models))) THEN e.attempts
                        ELSE greatest(e.attempts - 1, 0) END AS amount
                FROM completion_events e
                WHERE e.ended_us > now_us - limit_row.length_us - 10000000
                  AND (elder.id IS NULL OR elder.is_calendar OR e.started_us <= now_us - elder.length_us)
            ) AS used
            WHERE used.amount > 0 AND used.free_us > now_us
            GROUP BY 1, 2
            ON CONFLICT (limit_id, free_at_us) DO UPDATE SET amount = kept.amount + excluded.amount;
        ELSIF definition.fill = 'block' THEN
            UPDATE ledger_limits l SET blocked_until_us = greatest(l.blocked_until_us,
                ledger_free_at(l.is_calendar, l.length_us, l.resets_us, now_us))
            WHERE l.id = limit_row.id;
        END IF;
        UPDATE ledger_limits SET is_stale = FALSE WHERE id = limit_row.id;
    END LOOP;
    RETURN introduced;
END
$$;

-- Leaves an account (scope '') or a model on it alone for a while, for good when for_us is null; never shortens. The
-- probe that was under way has failed.
CREATE FUNCTION ledger_cool_down(of_provider TEXT, of_account TEXT, of_scope TEXT, for_us BIGINT, why TEXT)
RETURNS VOID LANGUAGE sql VOLATILE AS $$
    INSERT INTO ledger_cooldowns AS c (provider, account, scope, until_us, reason)
    VALUES (of_provider, of_account, of_scope, coalesce(ledger_now() + for_us, 9223372036854775807), why)
    ON CONFLICT (provider, account, scope) DO UPDATE SET until_us = greatest(c.until_us, excluded.until_us),
        reason = CASE WHEN excluded.until_us >= c.until_us THEN excluded.reason ELSE c.reason END,
        probe_id = NULL, probe_until_us = 0
$$;

-- Ends a cooldown, for instance when the account got another key.
CREATE FUNCTION ledger_reopen(of_provider TEXT, of_account TEXT, of_scope TEXT) RETURNS VOID LANGUAGE sql VOLATILE AS $$
    DELETE FROM ledger_cooldowns WHERE provider = of_provider AND account = of_account AND scope = of_scope
$$;

-- Holds every limit, of one provider or (null) of all, for one window: after a restore, when the ledger does not know what
-- was used meanwhile.
CREATE FUNCTION ledger_block(of_provider TEXT) RETURNS BIGINT LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    blocked BIGINT;
    now_us BIGINT;
BEGIN
    PERFORM l.id FROM ledger_limits l WHERE of_provider IS NULL OR l.provider = of_provider
    ORDER BY l.id FOR UPDATE;
    now_us := ledger_now();
    UPDATE ledger_limits l SET blocked_until_us = greatest(l.blocked_until_us,
        ledger_free_at(l.is_calendar, l.length_us, l.resets_us, now_us))
    WHERE of_provider IS NULL OR l.provider = of_provider;
    GET DIAGNOSTICS blocked = ROW_COUNT;
    RETURN blocked;
END
$$;

-- Deletes what has expired, at most so many rows of each kind; what is locked waits for the next time. The number of
-- rows deleted.
CREATE FUNCTION ledger_sweep(most BIGINT) RETURNS BIGINT LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    -- A second of grace for a settle that has read its clock and not yet written.
    before_us CONSTANT BIGINT := ledger_now() - 1000000;
    swept BIGINT := 0;
    step BIGINT;
BEGIN
    DELETE FROM ledger_holds h USING (
        SELECT x.limit_id, x.attempt_id FROM ledger_holds x WHERE x.free_at_us <= before_us
        LIMIT most FOR UPDATE SKIP LOCKED) AS old
    WHERE h.limit_id = old.limit_id AND h.attempt_id = old.attempt_id;
    GET DIAGNOSTICS step = ROW_COUNT;
    swept := swept + step;
    DELETE FROM ledger_slots s USING (
        SELECT x.limit_id, x.free_at_us FROM ledger_slots x WHERE x.free_at_us <= before_us
        LIMIT most FOR UPDATE SKIP LOCKED) AS old
    WHERE s.limit_id = old.limit_id AND s.free_at_us = old.free_at_us;
    GET DIAGNOSTICS step = ROW_COUNT;
    swept := swept + step;
    DELETE FROM ledger_attempts a USING (
        SELECT x.id FROM ledger_attempts x WHERE x.expires_us <= before_us
        LIMIT most FOR UPDATE SKIP LOCKED) AS old
    WHERE a.id = old.id;
    GET DIAGNOSTICS step = ROW_COUNT;
    RETURN swept + step;
END
$$;

-- What is held of every limit now, and what cools, for those who look. Takes no lock.
CREATE FUNCTION ledger_snapshot() RETURNS JSONB LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now_us CONSTANT BIGINT := ledger_now();
BEGIN
    RETURN jsonb_build_object(
        'now_us', now_us,
        'limits', (SELECT coalesce(jsonb_agg(jsonb_build_object('provider', l.provider, 'account', l.account,
                'scope', l.scope, 'unit', l.unit, 'span', l.span, 'max', m.max, 'held', ledger_held(l.id, now_us),
                'open', (SELECT count(*) FROM ledger_holds h WHERE h.limit_id = l.id AND h.free_at_us > now_us),
                'blocked_for_us', greatest(l.blocked_until_us - now_us, 0),
                'next_release_us', (SELECT coalesce(min(f.free_at_us) - now_us, 0) FROM (
                    SELECT h.free_at_us FROM ledger_holds h WHERE h.limit_id = l.id AND h.free_at_us > now_us
                    UNION ALL
                    SELECT s.free_at_us FROM ledger_slots s WHERE s.limit_id = l.id AND s.free_at_us > now_us) AS f)
                ) ORDER BY l.id), '[]')
            FROM ledger_limits l
            CROSS JOIN LATERAL (SELECT min(x.max) AS max FROM ledger_maxima x
                WHERE x.limit_id = l.id AND x.used_us > now_us - 60000000) AS m),
        'cooldowns', (SELECT coalesce(jsonb_agg(jsonb_build_object('provider', c.provider, 'account', c.account,
                'scope', c.scope, 'reason', c.reason, 'for_us', greatest(c.until_us - now_us, 0),
                'probing', c.probe_id IS NOT NULL AND c.probe_until_us > now_us)
                ORDER BY c.provider, c.account, c.scope), '[]')
            FROM ledger_cooldowns c));
END
$$;
