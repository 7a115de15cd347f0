package homekv.storage;

/**
 * What one command changed: an element of {@link History}. Immutable.
 *
 * <p>Of each change it has the version that was made. No key stands twice (S5).
 */
abstract sealed class Commit {
    /** When it was published, on the store's clock. */
    final long nanos;

    private Commit(long nanos) {
        this.nanos = nanos;
    }

    /** A commit of at least one change: the versions that were made, which are not written to any more. */
    static Commit of(long nanos, Version[] versions, long keptBytes, long deletedKeyBytes) {
        return versions.length == 1 && keptBytes + deletedKeyBytes <= Integer.MAX_VALUE
                ? new One(nanos, versions[0], (int) keptBytes, (int) deletedKeyBytes)
                : new Many(nanos, versions, keptBytes, deletedKeyBytes);
    }

    /** Its revision. */
    final long revision() {
        return version(0).revision;
    }

    /** How many changes, at least one. */
    abstract int size();

    /** The version that the change made. */
    abstract Version version(int index);

    /** What the account keeps because of it, while it lies in the history window: itself and what it replaced. */
    abstract long keptBytes();

    /** What the keys take that it deleted: they stay in the map until it leaves the history window. */
    abstract long deletedKeyBytes();

    /** One change: where a store is filled by single puts, each key has such a commit in the window. */
    private static final class One extends Commit {
        private final Version version;
        private final int keptBytes;
        private final int deletedKeyBytes;

        One(long nanos, Version version, int keptBytes, int deletedKeyBytes) {
            super(nanos);
            this.version = version;
            this.keptBytes = keptBytes;
            this.deletedKeyBytes = deletedKeyBytes;
        }

        @Override
        int size() {
            return 1;
        }

        @Override
        Version version(int index) {
            return version;
        }

        @Override
        long keptBytes() {
            return keptBytes;
        }

        @Override
        long deletedKeyBytes() {
            return deletedKeyBytes;
        }
    }

    private static final class Many extends Commit {
        private final Version[] versions;
        private final long keptBytes;
        private final long deletedKeyBytes;

        Many(long nanos, Version[] versions, long keptBytes, long deletedKeyBytes) {
            super(nanos);
            this.versions = versions;
            this.keptBytes = keptBytes;
            this.deletedKeyBytes = deletedKeyBytes;
        }

        @Override
        int size() {
            return versions.length;
        }

        @Override
        Version version(int index) {
            return versions[index];
        }

        @Override
        long keptBytes() {
            return keptBytes;
        }

        @Override
        long deletedKeyBytes() {
            return deletedKeyBytes;
        }
    }
}
