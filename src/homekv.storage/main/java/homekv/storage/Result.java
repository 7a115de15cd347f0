package homekv.storage;

/** The answer to a {@link Command}. Immutable. */
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
     * The command has changed nothing and was not counted, because it would pass a limit.
     *
     * <p>Over {@link Limit#MEMORY_BYTES} the same command may be taken later, once there is room; over any other
     * limit it will be refused again.
     *
     * @param limit the limit
     * @param actual what the command would need of it; 0 for an empty key
     * @param allowed the most that is allowed
     */
    record Refused(Limit limit, long actual, long allowed) implements Result {}
}
