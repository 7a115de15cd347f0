package homekv.storage;

import java.util.Objects;

/**
 * The command log that keeps nothing: a command is committed as soon as its writer has the turn, and is lost with
 * the process.
 *
 * <p>{@link #submit} waits for the commands before it, about a microsecond each plus as much per key, and for nothing
 * else. Readers neither wait for it nor hold it up.
 */
public final class MemoryCommandLog implements CommandLog {
    private final MvccStore store;

    /** The log of {@code store}, which is changed through this log alone. */
    public MemoryCommandLog(MvccStore store) {
        this.store = Objects.requireNonNull(store);
        store.changedThrough(this);
    }

    @Override
    public Result submit(Command command) {
        Result.Refused tooLarge = store.limits().check(command);
        if (tooLarge != null) {
            return tooLarge;
        }
        store.turn.lock();
        try {
            Result.Refused noRoom = store.admit(command);
            return noRoom != null ? noRoom : store.apply(command);
        } finally {
            store.turn.unlock();
        }
    }
}
