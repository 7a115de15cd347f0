package homekv.storage;

/**
 * What one command changed: an element of {@link History}. Immutable.
 *
 * <p>The same index in both arrays is one change. No key stands twice (S5).
 */
final class Commit {
    static final VersionChain[] NO_CHAINS = {};
    static final Version[] NO_VERSIONS = {};

    final long revision;

    /** When it was published, on the store's clock. */
    final long nanos;

    final VersionChain[] chains;
    final Version[] versions;

    /** What the account keeps because of it, while it lies in the history window: itself and what it replaced. */
    final long keptBytes;

    /** What the keys take that it deleted: they stay in the map until it leaves the history window. */
    final long deletedKeyBytes;

    Commit(long revision, long nanos, VersionChain[] chains, Version[] versions, long keptBytes, long deletedKeyBytes) {
        this.revision = revision;
        this.nanos = nanos;
        this.chains = chains;
        this.versions = versions;
        this.keptBytes = keptBytes;
        this.deletedKeyBytes = deletedKeyBytes;
    }
}
