package homekv.storage;

import java.util.List;

/** The answer to a {@link Command}. Immutable. All but the first two mean that nothing was changed or counted. */
public sealed interface Result {
    /**
     * The command has been applied, is visible to every snapshot opened from now on, and is as durable as the
     * {@link CommandLog} promises.
     *
     * @param revision the revision that the command took or, where it changed nothing, the store's revision then
     * @param deletedKeys how many keys were there and are deleted
     */
    record Applied(long revision, int deletedKeys) implements Result {}

    /**
     * A {@link Txn} has been applied, as {@link Applied} says.
     *
     * @param revision the revision that it took or, where it changed nothing, the store's revision then
     * @param succeeded whether its comparisons held
     * @param results one for each step that was carried out
     */
    record Transacted(long revision, boolean succeeded, List<OpResult> results) implements Result {}

    /**
     * The command would pass a limit.
     *
     * <p>Over {@link Limit#MEMORY_BYTES} the same command may be taken later, once there is room; over any other
     * limit it will be refused again.
     *
     * @param limit the limit
     * @param actual what the command would need of it, or the least that it would need; 0 for an empty key
     * @param allowed the most that is allowed
     */
    record Refused(Limit limit, long actual, long allowed) implements Result {}

    /** {@link Op.Increment} met a value that is no decimal integer, or a sum that does not fit 64 bits. */
    record NotAnInteger(Bytes key) implements Result {}

    /** There is no such lease; it has never been granted, or has ended. */
    record NoLease(long lease) implements Result {}

    /** There is a lease with this number already; take another one. */
    record LeaseExists(long lease) implements Result {}

    /**
     * {@link Command.Compact} named a revision that is not kept.
     *
     * @param first the first revision that can be read
     * @param last the last one
     */
    record OutOfRange(long revision, long first, long last) implements Result {}

    /**
     * The disk that the log writes to has too little free space for more of these commands. The same command may be
     * taken later, once there is room.
     *
     * @param freeBytes how much is free
     * @param requiredBytes how much has to be
     */
    record DiskFull(long freeBytes, long requiredBytes) implements Result {}
}
