DROP TABLE local_blocks;
DROP TABLE local_coverage;
DROP TABLE local_cooldowns;
DROP TABLE local_holds;
