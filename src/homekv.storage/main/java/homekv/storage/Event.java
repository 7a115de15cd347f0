package homekv.storage;

/** A change of one key, as one revision made it. Immutable. */
public sealed interface Event {
    /** The key. */
    Bytes key();

    /** The revision of the change. */
    long revision();

    /** What the key had before, or null where it was absent or where that was not asked for. */
    Entry previous();

    /** The key was given a value. */
    record Put(Entry entry, Entry previous) implements Event {
        @Override
        public Bytes key() {
            return entry.key();
        }

        @Override
        public long revision() {
            return entry.modificationRevision();
        }
    }

    /** The key was deleted. */
    record Delete(Bytes key, long revision, Entry previous) implements Event {}
}
