/**
 * An in-memory, ordered, multi-version key-value store: atomic writes of many keys, transactions, snapshots that stay as
 * they are, watches and leases, and readers that never wait for writers. Needs nothing but {@code java.base}.
 *
 * <p>A complete program:
 *
 * {@snippet class="homekv.storage.EmbeddedExample" region="program"}
 *
 * <p>{@link MvccStore} is the store and how it is read, {@link CommandLog} how it is changed, {@link Limits} every bound.
 * {@link MemoryCommandLog} keeps nothing; {@link WriteAheadLog} keeps the store in a directory, as safely as
 * {@link LogOptions} ask, and has it there again when the directory is opened the next time.
 *
 * <ul>
 *   <li>Keys and values are {@link Bytes}; several keys in order are a {@link Range}; a key with its value and its
 *       revisions is an {@link Entry}, a change of one an {@link Event}.
 *   <li>Reading: {@link MvccStore#get} for the present, {@link Snapshot} for any revision that is kept,
 *       {@link MvccStore#history} for what one key has been, {@link Watch} for what changes.
 *   <li>Writing: a {@link Command} goes into a log, a {@link Result} comes back. {@link Txn} is the one that compares
 *       ({@link Compare}) and then carries out steps ({@link Op}, {@link OpResult}).
 *   <li>Reading and then writing: {@link Transactions} runs functions over a {@link Transaction}.
 * </ul>
 *
 * <p>An expected refusal is a {@link Result}; an exception says that the environment failed, that the store has been
 * closed, or that something is no longer kept. Nothing here accepts null, unless it says so, or prints anything.
 */
package homekv.storage;
