package homekv.storage;

/**
 * What a store holds and has done, at one moment. Immutable.
 *
 * <p>The first four describe one revision exactly. {@code versions} and {@code heldBytes} are exact too, of a moment
 * shortly after it, since reclaiming is no command. The command counts are exact sums of what each thread had
 * finished.
 *
 * @param revision how many commands have changed the store
 * @param keys live keys
 * @param keyBytes bytes of all live keys
 * @param valueBytes bytes of all live values
 * @param versions versions held: live ones, older ones that open snapshots keep, tombstones not yet reclaimed
 * @param heldBytes the account of the heap that all of this takes, overhead included
 * @param gets reads through {@link MvccStore#get} that were carried out, and reads counted as one
 * @param sets {@link Command.Set} commands that were applied, those that changed nothing included
 * @param dels {@link Command.Del} commands that were applied, those that changed nothing included
 */
public record Counters(
        long revision,
        long keys,
        long keyBytes,
        long valueBytes,
        long versions,
        long heldBytes,
        long gets,
        long sets,
        long dels) {

    /** All commands that were carried out. */
    public long commands() {
        return gets + sets + dels;
    }
}
