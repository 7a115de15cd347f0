package homekv.storage;

import java.util.Objects;

/** What a {@link Command.Set} does to one key. Immutable. */
public sealed interface Write {
    /** The key that is written. */
    Bytes key();

    /** Gives the key this value, whether or not it is there; the same value again is a change too. */
    record Put(Bytes key, Bytes value) implements Write {
        public Put {
            Objects.requireNonNull(key);
            Objects.requireNonNull(value);
        }
    }

    /** Deletes the key; where it is absent, nothing changes. */
    record Delete(Bytes key) implements Write {
        public Delete {
            Objects.requireNonNull(key);
        }
    }
}
