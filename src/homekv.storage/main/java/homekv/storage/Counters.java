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
 * @param versions versions held: live ones, older ones that the history window or open snapshots keep, tombstones
 * @param heldBytes the account of the heap that all of this takes, overhead included
 * @param gets reads through {@link MvccStore#get} that were carried out, and reads counted as one
 * @param sets {@link Command.Set} commands that were applied, those that changed nothing included
 * @param dels {@link Command.Del} commands that were applied, those that changed nothing included
 * @param txns {@link Txn} commands that were applied, those that changed nothing included
 * @param compactRevision the first revision that can be read
 * @param leases leases that have not ended
 * @param watches watches that are open
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
        long dels,
        long txns,
        long compactRevision,
        long leases,
        long watches) {

    /** Gets, sets and dels together. */
    public long commands() {
        return gets + sets + dels;
    }
}
