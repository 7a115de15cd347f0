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
    /**
     * How often a writer looks whether it has the turn before it sleeps: for some microseconds, in which another one's command
     * of a few keys ends. Sleeping and being woken takes longer, and whoever comes meanwhile queues behind. With one processor
     * nobody's command ends while somebody looks.
     */
    private static final int LOOKS = Runtime.getRuntime().availableProcessors() > 1 ? 100 : 0;

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
        takeTurn(command);
        try {
            Result.Refused noRoom = store.admit(command);
            return noRoom != null ? noRoom : store.apply(command);
        } finally {
            store.turn.unlock();
        }
    }

    private void takeTurn(Command command) {
        if (store.turn.tryLock()) {
            return;
        }
        if (command instanceof Command.Set set) {
            store.fetch(set); // So that the turn is shorter, since others wait for it.
        }
        for (int i = 0; i < LOOKS; i++) {
            if (store.turn.tryLock()) {
                return;
            }
            Thread.onSpinWait();
        }
        store.turn.lock();
    }
}
