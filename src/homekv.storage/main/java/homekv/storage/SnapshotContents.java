package homekv.storage;

import java.util.List;
import java.util.function.Consumer;

/** Counts what a snapshot file holds, and keeps nothing of it. */
final class SnapshotContents implements SnapshotVisitor {
    private final Consumer<LeaseLeft> leaseAction;

    /** Live ones. */
    long keys;

    long versions;
    long leases;
    long compactRevision;

    /** @param leaseAction is given each lease */
    SnapshotContents(Consumer<LeaseLeft> leaseAction) {
        this.leaseAction = leaseAction;
    }

    @Override
    public void lease(LeaseLeft lease) {
        leases++;
        leaseAction.accept(lease);
    }

    @Override
    public void key(Bytes key, List<SavedVersion> newestFirst) {
        keys += newestFirst.get(0).value() != null ? 1 : 0;
        versions += newestFirst.size();
    }

    @Override
    public void finish(long revision, long firstRevision, long grants) {
        compactRevision = firstRevision;
    }
}
