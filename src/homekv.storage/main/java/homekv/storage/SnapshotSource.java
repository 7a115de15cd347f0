package homekv.storage;

import java.util.Arrays;
import java.util.List;

/**
 * What a snapshot file holds: the leases, and of every key the versions that the history window reads, up to the revision
 * that was published when the source was opened. Walked once, by one thread, while the store goes on.
 */
/*
 * The revision is pinned, so that every key can be read at it to the end (S4). The older versions of the window are not: as
 * the window moves on while the file is written, some are dropped before the walk comes to them. What has been dropped
 * lies below the compact revision by then, and the file claims no more than from the compact revision of its end on (S13).
 * Keys that were passed before hold more than that; whoever loads the file drops it.
 */
final class SnapshotSource implements AutoCloseable {
    private final History history;
    private final Snapshot snapshot;
    private final ChainWalk walk;
    private final long storeId;
    private final long revision;
    private final long grants;
    private final List<LeaseLeft> leases;

    private Bytes key;
    private SavedVersion[] found = new SavedVersion[4];
    private int count;

    SnapshotSource(
            long storeId, History history, Chains chains, Snapshot snapshot, List<LeaseLeft> leases, long grants) {
        this.storeId = storeId;
        this.history = history;
        this.snapshot = snapshot;
        this.walk = new ChainWalk(chains, Range.all(), false);
        this.revision = snapshot.revision();
        this.leases = leases;
        this.grants = grants;
    }

    /** The number of the store, {@link MvccStore#id()}. */
    long historyId() {
        return storeId;
    }

    /** The newest revision that the file holds. */
    long revision() {
        return revision;
    }

    /** How many leases the store had granted. */
    long grants() {
        return grants;
    }

    List<LeaseLeft> leases() {
        return leases;
    }

    /**
     * Goes on to the next key that has something to keep; false at the end.
     *
     * @throws SnapshotExpiredException if the revision is not kept any more
     */
    boolean next() {
        for (Version newest; (newest = walk.next(revision)) != null; ) {
            long first = history.compactRevision();
            count = 0;
            Version version = newest;
            while (version != null) {
                // Its value is taken before anything is looked at that says whether what was found counts.
                SavedVersion saved = saved(version);
                if (saved.value() == Version.DROPPED) {
                    break; // The window has left it meanwhile.
                }
                add(saved);
                version = version.revision <= first ? null : version.older();
            }
            // What the file's first revision reads as absent need not be said.
            while (count > 0 && found[count - 1].value() == null && found[count - 1].revision() <= first) {
                count--;
            }
            snapshot.requireOpen(); // Else what was found may not be all that the revision reads.
            if (count > 0) {
                key = newest.key();
                return true;
            }
        }
        snapshot.requireOpen();
        return false;
    }

    private static SavedVersion saved(Version version) {
        return new SavedVersion(
                version.revision, version.createRevision(), version.version(), version.value, version.lease());
    }

    private void add(SavedVersion version) {
        if (count == found.length) {
            found = Arrays.copyOf(found, 2 * count);
        }
        found[count++] = version;
    }

    /** The key that it has come to. */
    Bytes key() {
        return key;
    }

    /** How many versions of the key there are to keep, at least one. */
    int versions() {
        return count;
    }

    /** One of them; 0 is the newest. */
    SavedVersion version(int index) {
        return found[index];
    }

    /** Once the walk has ended: the first revision that can be read in what it has found. */
    long compactRevision() {
        return Math.min(history.compactRevision(), revision);
    }

    /** Lets go of what is kept for it. */
    @Override
    public void close() {
        snapshot.close();
    }
}
