package homekv.storage;

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
     * @throws IllegalStateException if the log has stopped for good after a failure; nothing was changed
     * @throws OutOfMemoryError if the heap is exhausted; nothing was changed
     */
    Result submit(Command command);
}
