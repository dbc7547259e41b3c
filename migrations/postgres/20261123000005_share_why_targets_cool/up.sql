-- Why a target is left alone, and how often in a row, goes to the replicas that ask; ADR 0005. The functions of the
-- release before stay as they are, for its replicas go on calling them; the new ones are around them.

-- How many waits there were in a row for want of an instant. The probe's success takes it away with its row; a release
-- that does not know it leaves it as it is.
ALTER TABLE ledger_cooldowns ADD COLUMN level BIGINT NOT NULL DEFAULT 0 CHECK (level >= 0);

-- ledger_reserve, and in its answer what is left alone of the targets that were asked for, which are the cooldowns of
-- the claims' accounts: those that wait for their probe, or were granted it, too.
--
-- standing: [[account, scope, in_us, is_probed, reason, level]]
--   in_us: not before; 0 when it is over and nobody probes.
CREATE FUNCTION ledger_ask(batch JSONB) RETURNS JSONB LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    answer JSONB;
    now_us BIGINT;
    standing JSONB := '[]';
BEGIN
    answer := ledger_reserve(batch);
    now_us := (answer ->> 'now_us')::BIGINT;
    IF EXISTS (SELECT FROM ledger_cooldowns c WHERE c.provider = batch ->> 'provider') THEN
        SELECT coalesce(jsonb_agg(jsonb_build_array(c.account, c.scope,
            CASE WHEN probed.is_so THEN greatest(c.until_us, now_us + 1000000) - now_us
                ELSE greatest(c.until_us - now_us, 0) END,
            probed.is_so AND c.until_us <= now_us, c.reason, c.level)), '[]')
        INTO standing
        FROM (SELECT DISTINCT a.value ->> 'account' AS account, s.scope
              FROM jsonb_array_elements(batch -> 'claims') AS q
              CROSS JOIN LATERAL jsonb_array_elements(q.value -> 'accounts') AS a
              CROSS JOIN LATERAL jsonb_array_elements_text(a.value -> 'cooldowns') AS s(scope)) AS asked
        JOIN ledger_cooldowns c
          ON c.provider = batch ->> 'provider' AND c.account = asked.account AND c.scope = asked.scope
        CROSS JOIN LATERAL (SELECT c.probe_id IS NOT NULL AND c.probe_until_us > now_us AS is_so) AS probed;
    END IF;
    RETURN answer || jsonb_build_object('standing', standing);
END
$$;

-- ledger_cool_down, after so many waits in a row. What several replicas found at the same time is one wait. What has
-- been over for a day without a probe, of a key or a model that nobody has any more, is forgotten.
CREATE FUNCTION ledger_leave_alone(
    of_provider TEXT, of_account TEXT, of_scope TEXT, for_us BIGINT, why TEXT, waits BIGINT)
RETURNS VOID LANGUAGE sql VOLATILE AS $$
    SELECT ledger_cool_down(of_provider, of_account, of_scope, for_us, why);
    UPDATE ledger_cooldowns SET level = greatest(level, waits)
    WHERE provider = of_provider AND account = of_account AND scope = of_scope;
    DELETE FROM ledger_cooldowns c USING (
        SELECT x.account, x.scope FROM ledger_cooldowns x
        WHERE x.provider = of_provider AND x.until_us < ledger_now() - 86400000000
        FOR UPDATE SKIP LOCKED) AS old
    WHERE c.provider = of_provider AND c.account = old.account AND c.scope = old.scope
$$;
