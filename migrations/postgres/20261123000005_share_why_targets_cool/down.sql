DROP FUNCTION ledger_leave_alone(TEXT, TEXT, TEXT, BIGINT, TEXT, BIGINT);
DROP FUNCTION ledger_ask(JSONB);
ALTER TABLE ledger_cooldowns DROP COLUMN level;
