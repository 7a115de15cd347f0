package homekv.storage;

import java.util.Arrays;
import java.util.function.LongSupplier;

/**
 * What one command changed: an element of {@link History}. Immutable.
 *
 * <p>Of each change it has the chain and the version that was made of it. No key stands twice (S5).
 */
abstract sealed class Commit {
    /** When it was published, on the store's clock. */
    final long nanos;

    private Commit(long nanos) {
        this.nanos = nanos;
    }

    /** A commit of at least one change; the same index in both arrays is one change, and they are never written to. */
    static Commit of(long nanos, VersionChain[] chains, Version[] versions, long keptBytes, long deletedKeyBytes) {
        boolean narrow = keptBytes + deletedKeyBytes <= Integer.MAX_VALUE;
        return chains.length == 1 && narrow
                ? new One(nanos, chains[0], versions[0], (int) keptBytes, (int) deletedKeyBytes)
                : new Many(nanos, chains, versions, keptBytes, deletedKeyBytes);
    }

    /** The commit of what is newest in the first so many of these chains, which are not written to any more. */
    static Commit of(VersionChain[] chains, int count, LongSupplier nanoClock, long keptBytes, long deletedKeyBytes) {
        if (count == 1 && keptBytes + deletedKeyBytes <= Integer.MAX_VALUE) {
            Version only = chains[0].newest;
            return new One(nanoClock.getAsLong(), chains[0], only, (int) keptBytes, (int) deletedKeyBytes);
        }
        VersionChain[] changed = count == chains.length ? chains : Arrays.copyOf(chains, count);
        Version[] versions = new Version[count];
        for (int i = 0; i < count; i++) {
            versions[i] = changed[i].newest;
        }
        return new Many(nanoClock.getAsLong(), changed, versions, keptBytes, deletedKeyBytes);
    }

    /** Its revision. */
    final long revision() {
        return version(0).revision;
    }

    /** How many changes, at least one. */
    abstract int size();

    /** The chain of one change. */
    abstract VersionChain chain(int index);

    /** The version that the change made. */
    abstract Version version(int index);

    /** What the account keeps because of it, while it lies in the history window: itself and what it replaced. */
    abstract long keptBytes();

    /** What the keys take that it deleted: they stay in the map until it leaves the history window. */
    abstract long deletedKeyBytes();

    /** One change: where a store is filled by single puts, each key has such a commit in the window. */
    private static final class One extends Commit {
        private final VersionChain chain;
        private final Version version;
        private final int keptBytes;
        private final int deletedKeyBytes;

        One(long nanos, VersionChain chain, Version version, int keptBytes, int deletedKeyBytes) {
            super(nanos);
            this.chain = chain;
            this.version = version;
            this.keptBytes = keptBytes;
            this.deletedKeyBytes = deletedKeyBytes;
        }

        @Override
        int size() {
            return 1;
        }

        @Override
        VersionChain chain(int index) {
            return chain;
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
        private final VersionChain[] chains;
        private final Version[] versions;
        private final long keptBytes;
        private final long deletedKeyBytes;

        Many(long nanos, VersionChain[] chains, Version[] versions, long keptBytes, long deletedKeyBytes) {
            super(nanos);
            this.chains = chains;
            this.versions = versions;
            this.keptBytes = keptBytes;
            this.deletedKeyBytes = deletedKeyBytes;
        }

        @Override
        int size() {
            return chains.length;
        }

        @Override
        VersionChain chain(int index) {
            return chains[index];
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
