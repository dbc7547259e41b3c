-- Leases are settled attempt by attempt. What one of the attempts that a lease paid for has counted leaves the lease's
-- row at once: held with the rest until the last of them ends, a window would begin anew for all.

-- The number of the last part of a lease that was written.
ALTER TABLE ledger_attempts ADD COLUMN parts BIGINT NOT NULL DEFAULT 0;

-- Attempts have ids of version 7, leases of version 8 (RFC 9562).
CREATE FUNCTION ledger_is_lease(id UUID) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE AS $$
    SELECT substr(id::TEXT, 15, 1) = '8'
$$;

-- As before, and each settlement may have parts: [[number, [[scope, unit, taken, held, last_in_us]]]], of a lease.
--   number: ascending by lease; a part is written once, however often it is sent;
--   taken: leaves what the lease holds; held: stays until a window after last_in_us (null where nothing is held).
-- With give_back what is left of the lease after its parts is free. A settlement of the release before has no parts.
CREATE OR REPLACE FUNCTION ledger_settle(batch JSONB) RETURNS JSONB LANGUAGE plpgsql VOLATILE AS $$
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
    -- Each part once: its number is above all that were written.
    WITH parts AS (
        SELECT DISTINCT ON (a.id, number) a.id, (p.value ->> 0)::BIGINT AS number, p.value -> 1 AS lines
        FROM jsonb_array_elements(batch -> 'settlements') AS s
        CROSS JOIN LATERAL jsonb_array_elements(coalesce(s.value -> 'parts', '[]')) AS p
        JOIN ledger_attempts a ON a.id = (s.value ->> 'id')::UUID
        WHERE (p.value ->> 0)::BIGINT > a.parts
    ), moved AS (
        SELECT h.attempt_id, h.limit_id, (line.value ->> 2)::BIGINT AS taken, (line.value ->> 3)::BIGINT AS held,
            ledger_slot(m.max, l.length_us,
                ledger_free_at(l.is_calendar, l.length_us, l.resets_us, now_us + (line.value ->> 4)::BIGINT)) AS free_us
        FROM parts
        CROSS JOIN LATERAL jsonb_array_elements(parts.lines) AS line
        JOIN ledger_holds h ON h.attempt_id = parts.id
        JOIN ledger_limits l ON l.id = h.limit_id
            AND l.scope = line.value ->> 0 AND l.unit = line.value ->> 1
        CROSS JOIN LATERAL (SELECT coalesce(min(x.max), 1) AS max FROM ledger_maxima x WHERE x.limit_id = l.id) AS m
    ), shrunk AS (
        UPDATE ledger_holds h SET amount = greatest(h.amount - t.taken, 0),
            returnable = least(h.returnable, greatest(h.amount - t.taken, 0))
        FROM (SELECT attempt_id, limit_id, sum(taken) AS taken FROM moved GROUP BY 1, 2) AS t
        WHERE h.attempt_id = t.attempt_id AND h.limit_id = t.limit_id
    ), numbered AS (
        UPDATE ledger_attempts a SET parts = n.number
        FROM (SELECT id, max(number) AS number FROM parts GROUP BY id) AS n WHERE a.id = n.id
    )
    INSERT INTO ledger_slots AS kept (limit_id, free_at_us, amount)
    SELECT limit_id, free_us, sum(held) FROM moved WHERE held > 0 AND free_us > now_us GROUP BY 1, 2
    ON CONFLICT (limit_id, free_at_us) DO UPDATE SET amount = kept.amount + excluded.amount;

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

CREATE OR REPLACE FUNCTION ledger_snapshot() RETURNS JSONB LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now_us CONSTANT BIGINT := ledger_now();
BEGIN
    RETURN jsonb_build_object(
        'now_us', now_us,
        'limits', (SELECT coalesce(jsonb_agg(jsonb_build_object('provider', l.provider, 'account', l.account,
                'scope', l.scope, 'unit', l.unit, 'span', l.span, 'max', m.max, 'held', ledger_held(l.id, now_us),
                'leased', (SELECT coalesce(sum(h.amount), 0) FROM ledger_holds h WHERE h.limit_id = l.id
                    AND h.free_at_us > now_us AND ledger_is_lease(h.attempt_id)),
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
