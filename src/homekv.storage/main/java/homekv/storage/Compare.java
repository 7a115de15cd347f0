package homekv.storage;

import java.util.Objects;

/**
 * A condition of a {@link Txn}. Immutable.
 *
 * <p>{@link Number} and {@link Value} have to hold for every live key in their range. Where there is none they look at
 * an absent key: all of its numbers are 0, and it has no value, so that every comparison with one fails.
 */
public sealed interface Compare {
    /** The keys that are looked at. */
    Range range();

    /** How what is found has to relate to what was given. */
    enum Operator {
        EQUAL,
        NOT_EQUAL,
        LESS,
        GREATER;

        boolean holds(int order) {
            return switch (this) {
                case EQUAL -> order == 0;
                case NOT_EQUAL -> order != 0;
                case LESS -> order < 0;
                case GREATER -> order > 0;
            };
        }
    }

    /** A number that every key has; see {@link Entry}. */
    enum Field {
        VERSION,
        CREATE_REVISION,
        MODIFICATION_REVISION,
        LEASE;

        long of(Entry entry) {
            return switch (this) {
                case VERSION -> entry.version();
                case CREATE_REVISION -> entry.createRevision();
                case MODIFICATION_REVISION -> entry.modificationRevision();
                case LEASE -> entry.lease();
            };
        }
    }

    /** Compares a number of each key. */
    record Number(Range range, Field field, Operator operator, long number) implements Compare {
        public Number {
            Objects.requireNonNull(range);
            Objects.requireNonNull(field);
            Objects.requireNonNull(operator);
        }
    }

    /** Compares the value of each key, in unsigned lexicographic order. */
    record Value(Range range, Operator operator, Bytes value) implements Compare {
        public Value {
            Objects.requireNonNull(range);
            Objects.requireNonNull(operator);
            Objects.requireNonNull(value);
        }
    }

    /** Compares how many live keys the range has. */
    record Count(Range range, Operator operator, long count) implements Compare {
        public Count {
            Objects.requireNonNull(range);
            Objects.requireNonNull(operator);
        }
    }

    /** Holds if the key is absent. */
    static Compare absent(Bytes key) {
        return new Number(Range.key(key), Field.VERSION, Operator.EQUAL, 0);
    }

    /** Holds if the key has this value. */
    static Compare valueIs(Bytes key, Bytes value) {
        return new Value(Range.key(key), Operator.EQUAL, value);
    }

    /** Holds if the key was last written by this revision; 0: if it is absent. */
    static Compare lastWritten(Bytes key, long revision) {
        return new Number(Range.key(key), Field.MODIFICATION_REVISION, Operator.EQUAL, revision);
    }
}
