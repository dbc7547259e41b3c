-- The functions as they were; a lease that is open ends by its crash cap.
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

ALTER TABLE ledger_attempts DROP COLUMN parts;
DROP FUNCTION ledger_is_lease(UUID);
