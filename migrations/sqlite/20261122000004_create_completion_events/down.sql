DROP TABLE completion_events;
