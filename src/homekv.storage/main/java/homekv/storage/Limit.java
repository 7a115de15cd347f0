package homekv.storage;

/** The names of the {@link Limits}, for refusals and settings. Each constant has a component of that name there. */
public enum Limit {
    KEY_BYTES,
    VALUE_BYTES,
    REQUEST_KEYS,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    IN_FLIGHT_BYTES,
    MEMORY_BYTES,
    HISTORY_BYTES,
    SNAPSHOT_MILLIS,
    OPEN_SNAPSHOTS;
}
