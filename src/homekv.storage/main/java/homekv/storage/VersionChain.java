package homekv.storage;

/**
 * One key, and its first version. The {@link ChainTable} has the newest one, from which the others hang, in strictly
 * falling revisions (S3).
 *
 * <p>As a version, this is the put that brought the key into the map, if that named no lease: most keys are never written
 * again, and cost no other object. It is the last of the versions as long as it is kept, and its value is dropped when it
 * is no more; or it was never one of them.
 *
 * <p>Any thread may read; only the writer, in its turn, changes. A chain without versions is one that an unfinished
 * command has put into the map, or one that is leaving it: to a reader, an absent key. It stands in the table itself, with
 * its value dropped. Nobody outside of the store gets hold of a chain, or one key that is kept somewhere would keep
 * versions.
 */
final class VersionChain extends Version {
    /** The table's hash of the key, but for {@link ChainTable#TAKEN}, which says {@link #isOverwritten()} here. */
    private int hash;

    /**
     * The chain of the next lower key in the map, or null. A reader may see an old link, to a chain that has left the
     * map or past one that has just joined it: from both it goes on to every chain that its snapshot can see.
     */
    VersionChain before;

    /** Without versions; {@code firstRevision} is that of its first version, if this comes to be it. */
    VersionChain(byte[] key, int hash, long firstRevision) {
        super(key, firstRevision, DROPPED);
        this.hash = hash & ~ChainTable.TAKEN;
    }

    /** The table's hash of the key. */
    int hash() {
        return hash | ChainTable.TAKEN;
    }

    /**
     * Whether the table may ever have had another version of this key than this. A reader that finds it has not needs no
     * look-up: see {@link ChainTable#newest}.
     */
    boolean isOverwritten() {
        return hash < 0;
    }

    /** Before another version than this comes into the table. A number, so the collector has nothing to do with it. */
    void overwritten() {
        hash |= ChainTable.TAKEN;
    }

    /** The oldest of the versions that were kept of this key: this itself where it is such a version. */
    Version saved(SavedVersion oldest) {
        if (oldest.value() == null
                || oldest.lease() != 0
                || oldest.version() != 1
                || oldest.createRevision() != revision) {
            return Version.saved(this, oldest, null);
        }
        value = oldest.value();
        return this;
    }

    /** Lets go of the first version's value: it is not, or no longer, one of the key's versions. */
    void dropFirst() {
        value = DROPPED;
    }
}
