package homekv.storage;

/**
 * What is known of a lease at one moment. Immutable.
 *
 * @param id its number
 * @param ttlMillis how long it lives after it was granted or kept alive
 * @param leftMillis how long it lives from now if it is not kept alive; 0 if it is being ended
 * @param keys how many keys are attached to it
 */
public record LeaseStatus(long id, long ttlMillis, long leftMillis, long keys) {}
