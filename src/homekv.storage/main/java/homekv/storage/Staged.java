package homekv.storage;

import java.util.ArrayList;
import java.util.List;

/**
 * A command that has been evaluated and is ordered, but not yet visible: what it answers, and what it does to the store
 * once it is committed. A log keeps the latter, not the command, so that recovery depends on nothing that evaluating it
 * depended on.
 *
 * @param result what is answered once it has been committed
 * @param batch the versions that it makes, or null
 * @param granted the lease that it begins, or null
 * @param compactRevision what it raises the compact revision to, or -1
 */
record Staged(Result result, Batch batch, Leases.Lease granted, long compactRevision) {
    /** A command that does nothing to the store. */
    static Staged answer(Result result) {
        return new Staged(result, null, null, -1);
    }

    /** How much there is in the answer: steps, and entries in what they answer; 1 where it has no steps. */
    int answerParts() {
        return result instanceof Result.Transacted transacted ? parts(transacted.results()) : 1;
    }

    private static int parts(List<OpResult> results) {
        int parts = results.size();
        for (int i = 0; i < results.size(); i++) {
            parts += switch (results.get(i)) {
                case OpResult.Scanned scanned -> scanned.entries().size();
                case OpResult.Deleted deleted -> deleted.previous().size();
                case OpResult.Transacted transacted -> parts(transacted.results());
                case OpResult.Got got -> 0;
                case OpResult.Put put -> 0;
                case OpResult.Incremented incremented -> 0;
            };
        }
        return parts;
    }

    /** What the log has to keep of it, or null if it changes nothing. */
    LogRecord record() {
        if (granted != null) {
            return new LogRecord.Granted(granted.id, granted.ttlMillis, granted.grant);
        }
        if (compactRevision >= 0) {
            return new LogRecord.Compacted(compactRevision);
        }
        Leases.Lease ended = batch == null ? null : batch.revoked();
        if (batch == null || batch.commit() == null && ended == null) {
            return null;
        }
        return new LogRecord.Committed(
                batch.next().revision(), writes(), ended == null ? 0 : ended.id, ended == null ? 0 : ended.grant);
    }

    private List<Write> writes() {
        if (batch.commit() == null) {
            return List.of();
        }
        Commit commit = batch.commit();
        List<Write> writes = new ArrayList<>(commit.size());
        for (int i = 0; i < commit.size(); i++) {
            Version version = commit.version(i);
            Bytes key = version.key();
            if (version.createRevision() == version.revision && Version.isLive(version.older())) {
                writes.add(new Write.Delete(key)); // It was deleted and put again: its create revision is new.
            }
            writes.add(
                    version.isTombstone()
                            ? new Write.Delete(key)
                            : new Write.Put(key, Bytes.unsafeWrap(version.value), version.lease()));
        }
        return writes;
    }
}
