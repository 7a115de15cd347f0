/**
 * An in-memory, ordered, multi-version key-value store: atomic writes of many keys, snapshots that stay as they are,
 * and readers that never wait for writers. Needs nothing but {@code java.base}.
 *
 * <p>A complete program:
 *
 * {@snippet class="homekv.storage.EmbeddedExample" region="program"}
 *
 * <p>{@link MvccStore} is the store and how it is read, {@link CommandLog} how it is changed, {@link Snapshot} a view
 * of one revision, {@link Limits} every bound. {@link Bytes} are keys and values, {@link Entry} a key with its value
 * and its revisions, {@link Command}, {@link Write} and {@link Result} what goes into a log and comes back.
 *
 * <p>An expected refusal is a {@link Result.Refused}; an exception says that the environment failed or that the store
 * has been closed. Nothing here accepts null or writes to a log.
 */
package homekv.storage;
