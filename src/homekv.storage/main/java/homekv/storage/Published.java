package homekv.storage;

/** What the last command left behind: the revision that readers see and what the store holds there. Immutable. */
record Published(long revision, long keys, long keyBytes, long valueBytes, long sets, long dels, long txns) {}
