package homekv.storage;

import java.util.Objects;

/** What a {@link Command.Set} does to one key. Immutable. */
public sealed interface Write {
    /** The key that is written. */
    Bytes key();

    /**
     * Gives the key this value, whether or not it is there; the same value again is a change too.
     *
     * @param lease the lease that the key ends with; 0: none, and an earlier one lets go of it
     */
    record Put(Bytes key, Bytes value, long lease) implements Write {
        public Put {
            Objects.requireNonNull(key);
            Objects.requireNonNull(value);
        }

        /** A put that is attached to no lease. */
        public Put(Bytes key, Bytes value) {
            this(key, value, 0);
        }
    }

    /** Deletes the key; where it is absent, nothing changes. */
    record Delete(Bytes key) implements Write {
        public Delete {
            Objects.requireNonNull(key);
        }
    }
}
