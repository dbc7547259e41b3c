-- Nothing: an embedded store serves one process, which has no other replica to share a budget with. The step keeps
-- the same place on both backends.
SELECT 1;
