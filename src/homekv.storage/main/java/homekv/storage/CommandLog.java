package homekv.storage;

import java.io.IOException;

/**
 * The one way in which a store is changed: an ordered log of commands that are applied one after another.
 *
 * <p>Any number of threads, virtual ones included, may call {@link #submit} at once. What differs between
 * implementations is when a command counts as committed: at once ({@link MemoryCommandLog}), when it is on disk, or
 * when a quorum has it.
 */
public interface CommandLog {
    /**
     * Orders a command, makes it as durable as this log promises, applies it and publishes it.
     *
     * <p>Blocks its thread until all of that has happened. When it returns {@link Result.Applied}, every snapshot
     * opened from then on, by any thread, sees the command whole. {@link Result.Refused} means that nothing changed.
     *
     * @throws LogStoppedException if the log has stopped for good after a failure of what it writes to; says whether
     *     the command may have been kept
     * @throws IllegalStateException if the log or its store has been closed; nothing was changed
     * @throws OutOfMemoryError if the heap is exhausted; nothing was changed
     */
    Result submit(Command command);

    /** What commands survive once {@link #submit} has answered them. Never changes. */
    default Durability durability() {
        return Durability.MEMORY;
    }

    /**
     * Writes a snapshot file of the store as it is now, so that recovery need not read what was logged before it, and
     * deletes what recovery then needs no more. Blocks its thread until that is done or has failed, after one that may
     * be under way already; reads and writes go on meanwhile.
     *
     * @throws UnsupportedOperationException if this log keeps nothing
     * @throws IOException if the file could not be written; nothing is lost by that
     * @throws LogStoppedException if the log has stopped for good
     */
    default SnapshotFileInfo writeSnapshotFile() throws IOException {
        throw new UnsupportedOperationException("this store lives in memory alone and has no snapshot files");
    }

    /** Why the log takes no more commands, in one line, or null as long as nothing that it writes to has failed. */
    default String failure() {
        return null;
    }

    /**
     * Has {@code action} run once, soon after the log has stopped for good; at once if it has. It runs in the log's own
     * thread, so it must neither block nor close the log: closing waits for that thread.
     */
    default void onFailure(Runnable action) {}
}
