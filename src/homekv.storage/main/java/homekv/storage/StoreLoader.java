package homekv.storage;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/**
 * Fills an empty store with what a snapshot file holds. In the writer's turn, before anybody else knows the store.
 *
 * <p>Takes the heap that the store takes, and for a moment an array of the size of the history window beside it.
 */
final class StoreLoader implements SnapshotVisitor {
    private final Chains map;
    private final Leases leases;
    private final History history;
    private final Reclaimer reclaimer;
    private final LongSupplier nanoClock;
    private final Consumer<Published> publish;
    private long versions;
    private long keys;
    private long keyBytes;
    private long valueBytes;

    /** Of the chains that have been loaded, the one with the highest key; the others hang on it. */
    private VersionChain last;

    StoreLoader(
            Chains map,
            Leases leases,
            History history,
            Reclaimer reclaimer,
            LongSupplier nanoClock,
            Consumer<Published> publish) {
        this.map = map;
        this.leases = leases;
        this.history = history;
        this.reclaimer = reclaimer;
        this.nanoClock = nanoClock;
        this.publish = publish;
    }

    @Override
    public void lease(LeaseLeft lease) {
        require(leases.restore(lease), "it has a lease twice");
    }

    @Override
    public void key(Bytes key, List<SavedVersion> newestFirst) {
        require(last == null || Arrays.compareUnsigned(last.key, key.unsafeArray()) < 0, "its keys are not in order");
        SavedVersion oldest = newestFirst.get(newestFirst.size() - 1);
        VersionChain chain = map.chain(key, oldest.revision());
        Version newest = null;
        for (int i = newestFirst.size() - 1; i >= 0; i--) {
            SavedVersion saved = newestFirst.get(i);
            require(newest == null || newest.revision < saved.revision(), "the revisions of a key do not fall");
            newest = newest == null ? chain.saved(saved) : Version.saved(chain, saved, newest);
            versions++;
        }
        require(
                Version.lease(newest) == 0 || leases.findAny(newest.lease()) != null,
                "a key names a lease that it has not");
        map.append(newest, last);
        last = chain;
        leases.attach(Version.lease(newest), last);
        leases.hold(Version.lease(newest));
        if (Version.isLive(newest)) {
            keys++;
            keyBytes += key.length();
            valueBytes += newest.value.length;
        }
    }

    @Override
    public void finish(long revision, long compactRevision, long grants) {
        require(compactRevision >= 0 && compactRevision <= revision, "its first revision lies above its last");
        require(revision - compactRevision <= versions, "it has fewer changes than revisions");
        int[] changes = new int[(int) (revision - compactRevision)];
        for (VersionChain chain = last; chain != null; chain = chain.before) {
            Version newest = map.newest(chain);
            require(newest.revision <= revision, "a version is newer than its last revision");
            for (Version version = newest; isInWindow(version, compactRevision); version = version.older()) {
                changes[index(version, compactRevision)]++;
            }
        }
        for (int each : changes) {
            require(each > 0, "a revision is missing");
        }
        history.begin(compactRevision);
        keepCommits(changes, compactRevision);
        for (VersionChain chain = last; chain != null; chain = chain.before) {
            dropUnread(chain, compactRevision);
            Version newest = map.newest(chain);
            if (newest != null) {
                account(newest);
            } else {
                map.remove(chain);
            }
        }
        leases.grantedBefore(grants);
        publish.accept(new Published(revision, keys, keyBytes, valueBytes, 0, 0, 0));
        reclaimer.compacted();
    }

    private static boolean isInWindow(Version version, long compactRevision) {
        return version != null && version.revision > compactRevision;
    }

    private static int index(Version version, long compactRevision) {
        return (int) (version.revision - compactRevision - 1);
    }

    /** Puts the versions of the window in order of their revisions; {@code changes} has how many each revision made. */
    private void keepCommits(int[] changes, long compactRevision) {
        Version[][] made = new Version[changes.length][];
        for (int i = 0; i < changes.length; i++) {
            made[i] = new Version[changes[i]];
        }
        // The chains are walked down, so each revision's changes are filled in from their end.
        for (VersionChain chain = last; chain != null; chain = chain.before) {
            for (Version version = map.newest(chain); isInWindow(version, compactRevision); version = version.older()) {
                int index = index(version, compactRevision);
                made[index][--changes[index]] = version;
            }
        }
        long nanos = nanoClock.getAsLong();
        for (int i = 0; i < changes.length; i++) {
            long keptBytes = reclaimer.commitBytes(made[i].length);
            for (Version version : made[i]) {
                keptBytes += reclaimer.keptBytes(version);
            }
            Commit commit = Commit.of(made[i]);
            history.reserve(compactRevision + 1 + i);
            history.append(commit, nanos, keptBytes);
            reclaimer.keep(commit, keptBytes);
        }
    }

    /** Drops what only revisions below the window read: the file may have more than it claims. */
    private void dropUnread(VersionChain chain, long compactRevision) {
        Version.Later newer = null;
        Version read = map.newest(chain);
        while (isInWindow(read, compactRevision)) {
            newer = read instanceof Version.Later later ? later : null; // Behind any other there is none.
            read = read.older();
        }
        if (read instanceof Version.Later later) {
            later.older = null;
            chain.dropFirst();
        }
        if (read == null) {
            return;
        }
        if (read.isTombstone() && newer != null) {
            newer.older = null;
        } else if (read.isTombstone()) {
            map.replace(read, null);
        }
    }

    private void account(Version newest) {
        List<Version> newestFirst = new ArrayList<>();
        for (Version version = newest; version != null; version = version.older()) {
            newestFirst.add(version);
        }
        for (int i = newestFirst.size() - 1; i >= 0; i--) {
            reclaimer.add(newestFirst.get(i));
        }
    }

    private static void require(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalArgumentException(otherwise);
        }
    }
}
