package homekv.rpc;

import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Empty;
import homekv.rpc.proto.BackupResponse;
import homekv.rpc.proto.CompactRequest;
import homekv.rpc.proto.DelRequest;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.DiffRequest;
import homekv.rpc.proto.DiffResponse;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HistoryRequest;
import homekv.rpc.proto.HistoryResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.LeaseGrantRequest;
import homekv.rpc.proto.LeaseRequest;
import homekv.rpc.proto.LeaseRevokeResponse;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.ScanRequest;
import homekv.rpc.proto.ScanResponse;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.rpc.proto.SnapshotResponse;
import homekv.rpc.proto.TxnRequest;
import homekv.storage.Bytes;
import homekv.storage.Compare;
import homekv.storage.Difference;
import homekv.storage.Durability;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.LeaseStatus;
import homekv.storage.Op;
import homekv.storage.OpResult;
import homekv.storage.Range;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Transaction;
import homekv.storage.Transactions;
import homekv.storage.Txn;
import homekv.storage.Write;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.io.OutputStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.function.Function;

/**
 * A blocking client of one HomeKV server, over one connection, in plain text.
 *
 * <p>Any number of threads, virtual ones included, may share one. The connection is made by the first call, and made
 * again when it is lost. A call blocks until its answer is here or the timeout is over, and throws {@link HomeKvException}
 * if there is none. What only reads is tried again a few times, within its timeout, where the server could not be reached;
 * nothing that writes ever is: whether it may be sent twice is the caller's to know.
 *
 * <p>Gets of one key, and sets that put one key without a lease, are gathered where many threads call at once: those that
 * come while one is under way wait for it to end, and go together in the next call. Each has its own answer, error and
 * timeout; a lone caller's call goes at once. Sets that went together are one revision, so that a watch reports them
 * together: more atomic than was asked for. Two sets of one key never are.
 *
 * <p>Answers of servers that know no revisions come without one.
 */
public final class HomeKvClient implements AutoCloseable {
    /**
     * What a get found.
     *
     * @param values a value for every key that was asked for, in the order asked, null where the key is absent
     * @param revision the revision that was read
     */
    public record Found(List<Bytes> values, OptionalLong revision) {}

    /**
     * What a write did.
     *
     * @param revision the revision it took or, where it changed nothing, the store's
     * @param deleted how many keys were there and are deleted; for a del and the end of a lease only
     * @param durability what the write survives, null where the server does not say
     */
    public record Written(OptionalLong revision, OptionalLong deleted, Durability durability) {}

    /**
     * What a transaction did.
     *
     * @param revision the revision that it took or, where it changed nothing, the store's then
     * @param succeeded whether its comparisons held
     * @param results one for each step that was carried out
     * @param durability what it survives, null where the server does not say
     */
    public record Transacted(long revision, boolean succeeded, List<OpResult> results, Durability durability) {}

    /**
     * What came of {@link #compareAndSet}.
     *
     * @param done whether the key was as expected, and has been set
     * @param revision the revision that it took or, where it was not done, the one that was looked at
     * @param found what the key was instead, null where it was absent; always null where it was done
     * @param durability what it survives, null where the server does not say
     */
    public record Swapped(boolean done, long revision, Entry found, Durability durability) {}

    /**
     * How the server keeps what is written.
     *
     * @param durability what writes survive, null where the server does not say
     * @param failure why the log has stopped for good and writes are refused, null as long as they are taken
     */
    public record LogState(Durability durability, String failure) {}

    /** The longest pause after the first conflict of a transaction, about what a few calls take. */
    private static final long FIRST_PAUSE_NANOS = 500_000;

    /** More than any server takes, and few enough milliseconds to be counted. */
    private static final Duration LONGEST_LEASE = Duration.ofDays(1_000_000);

    private final Connection connection;
    private final ClientMessages messages;

    private final Gathering<ByteString, GetRequest, GetResponse> gets = new Gathering<>(
            HomeKvServiceGrpc.getGetMethod(),
            keys -> GetRequest.newBuilder().addAllKeys(keys).build(),
            HomeKvClient::valueBytes);

    private final Gathering<Record, SetRequest, SetResponse> sets = new Gathering<>(
            HomeKvServiceGrpc.getSetMethod(),
            records -> SetRequest.newBuilder().addAllRecords(records).build(),
            response -> 0);

    /**
     * A client of the server at a host and port. Does not connect yet.
     *
     * @param timeout how long each call may take, and how long a stream may be silent where an answer is due
     * @throws HomeKvException if no host can have that name
     */
    public HomeKvClient(String host, int port, Duration timeout) {
        this(new Connection(host, port, timeout));
    }

    /** A client over this connection, which it closes. */
    HomeKvClient(Connection connection) {
        this.connection = connection;
        this.messages = new ClientMessages(connection);
    }

    /** This client for calls that follow from each other; see {@link Connection#withOneStore}. Closed with this one. */
    HomeKvClient withOneStore() {
        return new HomeKvClient(connection.withOneStore());
    }

    // ---- Single commands ----

    /** Reads keys, all from one snapshot, the newest. */
    public Found get(List<Bytes> keys) {
        return get(keys, OptionalLong.empty());
    }

    /** Reads keys, all as an older revision has them. */
    public Found get(List<Bytes> keys, long revision) {
        return get(keys, OptionalLong.of(revision));
    }

    private Found get(List<Bytes> keys, OptionalLong revision) {
        if (keys.size() == 1 && revision.isEmpty()) {
            ByteString key = unsafeWrap(keys.get(0));
            return found(connection.read(timed -> gets.call(key, null, key.size(), timed)), 1);
        }
        GetRequest.Builder request = GetRequest.newBuilder();
        keys.forEach(key -> request.addKeys(unsafeWrap(key)));
        revision.ifPresent(request::setRevision);
        GetResponse response = connection.read(timed -> timed.get(request.build()));
        Found found = found(new Gathering.Share<>(response, 0, 1), keys.size());
        if (revision.isPresent() && !found.revision().equals(revision)) {
            throw connection.wrongAnswer("does not read older revisions; it is older than this client");
        }
        return found;
    }

    private Found found(Gathering.Share<GetResponse> share, int keys) {
        GetResponse response = share.response();
        if (response.getRecordsCount() != share.callers() * keys) {
            throw connection.wrongAnswer(
                    "answered " + share.callers() * keys + " keys with " + response.getRecordsCount() + " records");
        }
        List<Bytes> values = new ArrayList<>(keys);
        for (int i = 0; i < keys; i++) {
            Record record = response.getRecords(share.index() + i);
            values.add(record.hasValue() ? ClientMessages.bytes(record.getValue()) : null);
        }
        return new Found(values, optional(response.hasRevision(), response.getRevision()));
    }

    private static long valueBytes(GetResponse response) {
        long bytes = 0;
        for (int i = 0; i < response.getRecordsCount(); i++) {
            bytes += response.getRecords(i).getValue().size();
        }
        return bytes;
    }

    /**
     * Puts and deletes, all or nothing; all puts with the same lease. A single put may share its revision with those of
     * other threads.
     */
    public Written set(List<Write> writes) {
        SetResponse response;
        if (writes.size() == 1 && writes.get(0) instanceof Write.Put put && put.lease() == 0) {
            ByteString key = unsafeWrap(put.key());
            Record record = Record.newBuilder()
                    .setKey(key)
                    .setValue(unsafeWrap(put.value()))
                    .build();
            long bytes = (long) key.size() + put.value().length();
            response = connection
                    .write(timed -> sets.call(record, key, bytes, timed))
                    .response();
        } else {
            SetRequest request = setRequest(writes);
            response = connection.write(timed -> timed.set(request));
        }
        if (!response.getSucc()) {
            throw connection.wrongAnswer("did not carry out the set");
        }
        return new Written(
                optional(response.hasRevision(), response.getRevision()),
                OptionalLong.empty(),
                ClientMessages.durability(response.getDurability()));
    }

    private static SetRequest setRequest(List<Write> writes) {
        SetRequest.Builder request = SetRequest.newBuilder();
        long lease = 0;
        boolean putBefore = false;
        for (Write write : writes) {
            Record.Builder record = Record.newBuilder().setKey(unsafeWrap(write.key()));
            switch (write) {
                case Write.Put put -> {
                    if (putBefore && put.lease() != lease) {
                        throw new IllegalArgumentException(
                                "a set has one lease; a transaction can attach its keys to several");
                    }
                    putBefore = true;
                    lease = put.lease();
                    record.setValue(unsafeWrap(put.value()));
                }
                case Write.Delete delete -> {}
            }
            request.addRecords(record);
        }
        return request.setLease(lease).build();
    }

    /** Deletes keys, all or nothing. */
    public Written del(List<Bytes> keys) {
        DelRequest.Builder request = DelRequest.newBuilder();
        keys.forEach(key -> request.addKeys(unsafeWrap(key)));
        DelResponse response = connection.write(timed -> timed.del(request.build()));
        if (!response.getSucc()) {
            throw connection.wrongAnswer("did not carry out the del");
        }
        return new Written(
                optional(response.hasRevision(), response.getRevision()),
                optional(response.hasDeleted(), response.getDeleted()),
                ClientMessages.durability(response.getDurability()));
    }

    /** What the server reports of itself: names and numbers, in the order of the protocol; unsigned. */
    public Map<String, Long> metrics() {
        Metrics metrics = reported();
        Map<String, Long> values = new LinkedHashMap<>();
        for (FieldDescriptor field : Metrics.getDescriptor().getFields()) {
            if ((!field.hasPresence() || metrics.hasField(field)) && metrics.getField(field) instanceof Number value) {
                boolean unsignedInt = field.getType() == FieldDescriptor.Type.UINT32;
                values.put(field.getName(), unsignedInt ? Integer.toUnsignedLong(value.intValue()) : value.longValue());
            }
        }
        return values;
    }

    /** How the server keeps what is written, and whether it still takes writes. */
    public LogState logState() {
        Metrics metrics = reported();
        return new LogState(
                ClientMessages.durability(metrics.getDurability()),
                metrics.getLogFailure().isEmpty() ? null : metrics.getLogFailure());
    }

    private Metrics reported() {
        return connection
                .read(timed -> timed.metrics(Empty.getDefaultInstance()))
                .getMetrics();
    }

    /** A key with its revisions, version and lease, or null where it is absent. */
    public Entry entry(Bytes key) {
        return entry(key, OptionalLong.empty());
    }

    /** A key as an older revision has it, or null where it is absent there. */
    public Entry entry(Bytes key, long revision) {
        return entry(key, OptionalLong.of(revision));
    }

    private Entry entry(Bytes key, OptionalLong revision) {
        if (key.length() == 0) {
            throw new HomeKvException(
                    HomeKvException.Reason.INVALID, "a key is empty; a key has at least 1 byte", null);
        }
        ScanRequest request = scanRequest(new ScanOptions(Range.key(key), false, 0, false, revision))
                .build();
        List<Entry> entries = new ArrayList<>(1);
        for (ScanResponse response : scanAtOnce(request)) {
            response.getEntriesList().forEach(entry -> entries.add(messages.entry(entry, false)));
        }
        if (entries.size() > 1 || entries.size() == 1 && !entries.get(0).key().equals(key)) {
            throw connection.wrongAnswer("answered with entries of other keys");
        }
        return entries.isEmpty() ? null : entries.get(0);
    }

    /** How many keys a range has. */
    public long count(Range range) {
        return count(range, OptionalLong.empty());
    }

    /** How many keys a range has at an older revision. */
    public long count(Range range, long revision) {
        return count(range, OptionalLong.of(revision));
    }

    private long count(Range range, OptionalLong revision) {
        ScanRequest request = scanRequest(new ScanOptions(range, false, 0, false, revision))
                .setCountOnly(true)
                .build();
        List<ScanResponse> responses = scanAtOnce(request);
        if (responses.size() != 1) {
            throw connection.wrongAnswer("counted with " + responses.size() + " answers instead of one");
        }
        return responses.get(0).getCount();
    }

    /** For scans that answer little. */
    private List<ScanResponse> scanAtOnce(ScanRequest request) {
        return connection.read(timed -> {
            List<ScanResponse> responses = new ArrayList<>(1);
            timed.scan(request).forEachRemaining(responses::add);
            return responses;
        });
    }

    // ---- Transactions ----

    /**
     * Carries out a transaction in one revision; the answer says whether its comparisons held. What a scan for keys only
     * answers has empty values.
     */
    public Transacted transact(Txn txn) {
        TxnRequest request = ClientMessages.txn(txn);
        return messages.transacted(txn, connection.write(timed -> timed.txn(request)));
    }

    /**
     * Runs a function that must read before it knows what to write as one serializable transaction, and returns what it
     * returned; see {@link Transactions#run}. Its reads go to one revision, its writes are sent when it has returned. It
     * runs again where somebody else has changed what it read, and should do nothing else that matters.
     *
     * <p>Limits: what it reads and writes counts together towards the keys that a request may name, a range with all the
     * keys in it; with more it is refused as it commits. It runs 64 times at the most, with pauses of up to 64 ms between
     * attempts that conflict.
     *
     * @throws homekv.storage.ConflictException if others were faster each time; nothing was changed
     * @throws HomeKvException as every other call; UNREACHABLE may mean that the writes were carried out, and LOG_STOPPED
     *     that they will have been when the server is started again
     */
    public <T> T transact(Function<Transaction, T> function) {
        return new Transactions(new ClientTransactions(this), Transactions.DEFAULT_ATTEMPTS, FIRST_PAUSE_NANOS)
                .run(function);
    }

    /**
     * Adds to the decimal integer that a key's value is, in one revision, and returns the sum; an absent key counts as 0.
     *
     * @throws HomeKvException INVALID if the value is no integer from -2^63 to 2^63-1, or the sum is none
     */
    public long increment(Bytes key, long by) {
        return ((OpResult.Incremented) only(Txn.of(new Op.Increment(key, by)))).value();
    }

    /** Puts a value and returns what the key had before, null where it was absent. */
    public Entry getAndSet(Bytes key, Bytes value) {
        return ((OpResult.Put) only(Txn.of(new Op.Put(key, value, 0, true)))).previous();
    }

    /** Deletes a key and returns what it had before, null where it was absent. */
    public Entry getAndDelete(Bytes key) {
        List<Entry> deleted = ((OpResult.Deleted) only(Txn.of(new Op.Delete(Range.key(key), true)))).previous();
        return deleted.isEmpty() ? null : deleted.get(0);
    }

    private OpResult only(Txn txn) {
        return transact(txn).results().get(0);
    }

    /** Puts a value if the key has the expected one, null for an absent key; else changes nothing. */
    public Swapped compareAndSet(Bytes key, Bytes expected, Bytes value) {
        Compare compare = expected == null ? Compare.absent(key) : Compare.valueIs(key, expected);
        Transacted result =
                transact(new Txn(List.of(compare), List.of(new Op.Put(key, value, 0)), List.of(new Op.Get(key))));
        Entry found =
                result.succeeded() ? null : ((OpResult.Got) result.results().get(0)).entry();
        return new Swapped(result.succeeded(), result.revision(), found, result.durability());
    }

    // ---- Reading ranges and the past ----

    /** Reads a range in the order of its keys, from one snapshot. Does not wait for the server yet. */
    public ReadStream<Entry> scan(ScanOptions options) {
        return new ReadStream<>(connection, new ReadStream.Source<ScanResponse, Entry>() {
            private final ScanRequest.Builder request = scanRequest(options);
            private long left = options.limit();
            private boolean ended;
            private Bytes last;

            @Override
            ResponseStream<ScanResponse> open(Connection oneStore) {
                return ended ? null : oneStore.open(HomeKvServiceGrpc.getScanMethod(), request.build());
            }

            @Override
            List<Entry> take(ScanResponse response) {
                List<Entry> entries = new ArrayList<>(response.getEntriesCount());
                for (homekv.rpc.proto.Entry message : response.getEntriesList()) {
                    Entry entry = messages.entry(message, options.keysOnly());
                    requireInOrder(options.range(), last, entry.key(), options.descending());
                    last = entry.key();
                    entries.add(entry);
                }
                requireRevision(this, response.getRevision(), options.revision());
                if (options.limit() > 0) {
                    left -= entries.size();
                    request.setLimit(left);
                }
                if (left < 0) {
                    throw connection.wrongAnswer("answered with more entries than the limit of " + options.limit());
                }
                request.setPageToken(response.getPageToken());
                ended = response.getPageToken().isEmpty() || options.limit() > 0 && left == 0;
                return entries;
            }
        });
    }

    private static ScanRequest.Builder scanRequest(ScanOptions options) {
        ScanRequest.Builder request = ScanRequest.newBuilder()
                .setRange(ClientMessages.range(options.range()))
                .setDescending(options.descending())
                .setLimit(options.limit())
                .setKeysOnly(options.keysOnly());
        options.revision().ifPresent(request::setRevision);
        return request;
    }

    /**
     * What a key has been, oldest first: what it was at the first revision that can be read, if it was there, and every
     * change since. Does not wait for the server yet.
     */
    public ReadStream<Event> history(Bytes key) {
        return new ReadStream<>(connection, new ReadStream.Source<HistoryResponse, Event>() {
            private Event last;

            @Override
            ResponseStream<HistoryResponse> open(Connection oneStore) {
                HistoryRequest.Builder request = HistoryRequest.newBuilder().setKey(unsafeWrap(key));
                if (last != null) {
                    request.setFromRevision(last.revision()); // It comes again, and is left out below.
                }
                return oneStore.open(HomeKvServiceGrpc.getHistoryMethod(), request.build());
            }

            @Override
            List<Event> take(HistoryResponse response) {
                List<Event> events = new ArrayList<>(response.getEventsCount());
                for (homekv.rpc.proto.Event message : response.getEventsList()) {
                    Event event = messages.event(message);
                    if (!event.key().equals(key) || last != null && event.revision() < last.revision()) {
                        throw connection.wrongAnswer("answered with the history of another key, or out of order");
                    }
                    if (last == null || event.revision() > last.revision()) {
                        last = event;
                        events.add(event);
                    }
                }
                return events;
            }
        });
    }

    /**
     * What is different at revision {@code to} from what was at {@code from}, in the order of the keys. A key that was
     * written in between is different even if its value is the same. Does not wait for the server yet.
     */
    public ReadStream<Difference> differences(Range range, long from, long to) {
        return new ReadStream<>(connection, new ReadStream.Source<DiffResponse, Difference>() {
            private Bytes last;

            @Override
            ResponseStream<DiffResponse> open(Connection oneStore) {
                Range behind = last == null ? range : new Range(Range.key(last).to(), range.to());
                return oneStore.open(
                        HomeKvServiceGrpc.getDiffMethod(),
                        DiffRequest.newBuilder()
                                .setRange(ClientMessages.range(behind))
                                .setFromRevision(from)
                                .setToRevision(to)
                                .build());
            }

            @Override
            List<Difference> take(DiffResponse response) {
                List<Difference> differences = new ArrayList<>(response.getDifferencesCount());
                for (DiffResponse.Difference message : response.getDifferencesList()) {
                    Difference difference = messages.difference(message);
                    requireInOrder(range, last, difference.key(), false);
                    last = difference.key();
                    differences.add(difference);
                }
                requireRevision(this, response.getToRevision(), OptionalLong.of(to));
                return differences;
            }
        });
    }

    private void requireInOrder(Range range, Bytes last, Bytes key, boolean descending) {
        boolean behind = last == null || (descending ? key.compareTo(last) < 0 : key.compareTo(last) > 0);
        if (!behind || !range.contains(key)) {
            throw connection.wrongAnswer("answered with keys outside of the range, or out of order");
        }
    }

    private void requireRevision(ReadStream.Source<?, ?> source, long revision, OptionalLong asked) {
        if (asked.isPresent() && asked.getAsLong() != revision || source.begun && source.revision != revision) {
            throw connection.wrongAnswer("reads another revision, " + Long.toUnsignedString(revision));
        }
        source.revision = revision;
        source.begun = true;
    }

    /**
     * Gives up all revisions below one, so that it is the first that can be read.
     *
     * @throws HomeKvException OUT_OF_RANGE if that one has been given up itself, or has yet to come
     */
    public void compact(long revision) {
        CompactRequest request =
                CompactRequest.newBuilder().setRevision(revision).build();
        connection.write(timed -> timed.compact(request));
    }

    /** Begins to watch; what changes after this has returned is reported. Close it in the end. */
    public WatchStream watch(WatchOptions options) {
        return new WatchStream(connection, messages, options);
    }

    // ---- Leases ----

    /**
     * Begins a lease and returns its number. Keys that are attached to it are deleted when it has not been kept alive for
     * so long.
     *
     * @param timeToLive at least a millisecond
     */
    public long grantLease(Duration timeToLive) {
        if (timeToLive.compareTo(Duration.ofMillis(1)) < 0 || timeToLive.compareTo(LONGEST_LEASE) > 0) {
            throw new HomeKvException(
                    HomeKvException.Reason.INVALID,
                    "a lease lives for at least 1 millisecond and at most " + LONGEST_LEASE.toDays() + " days",
                    null);
        }
        LeaseGrantRequest request = LeaseGrantRequest.newBuilder()
                .setTtlMillis(timeToLive.toMillis())
                .build();
        long lease = connection.write(timed -> timed.leaseGrant(request)).getLease();
        if (lease <= 0) {
            throw connection.wrongAnswer("granted a lease without a number");
        }
        return lease;
    }

    /**
     * Gives a lease its whole time to live again.
     *
     * @throws HomeKvException NOT_FOUND if it has ended or is being ended
     */
    public LeaseStatus keepAlive(long lease) {
        LeaseRequest request = leaseRequest(lease);
        // Done twice it does no harm.
        return messages.lease(lease, connection.read(timed -> timed.leaseKeepAlive(request)));
    }

    /**
     * Ends a lease and deletes the keys attached to it, in as many revisions as it takes.
     *
     * @throws HomeKvException NOT_FOUND if it has ended, or never was
     */
    public Written revokeLease(long lease) {
        LeaseRequest request = leaseRequest(lease);
        LeaseRevokeResponse response = connection.write(timed -> timed.leaseRevoke(request));
        return new Written(
                OptionalLong.of(response.getRevision()),
                OptionalLong.of(response.getDeleted()),
                ClientMessages.durability(response.getDurability()));
    }

    /**
     * How long a lease has left.
     *
     * @throws HomeKvException NOT_FOUND if it has ended, or never was
     */
    public LeaseStatus lease(long lease) {
        LeaseRequest request = leaseRequest(lease);
        return messages.lease(lease, connection.read(timed -> timed.leaseTimeLeft(request)));
    }

    /** All leases that have not ended, in the order of their numbers. */
    public List<LeaseStatus> leases() {
        List<LeaseStatus> leases = new ArrayList<>();
        connection
                .read(timed -> timed.leaseList(Empty.getDefaultInstance()))
                .getLeasesList()
                .forEach(lease -> leases.add(messages.lease(lease.getLease(), lease)));
        return leases;
    }

    private static LeaseRequest leaseRequest(long lease) {
        return LeaseRequest.newBuilder().setLease(lease).build();
    }

    // ---- What is on disk ----

    /**
     * Has the server write a snapshot file, so that it starts sooner the next time. Blocks until that is done, however
     * long it takes; a server that goes away meanwhile is noticed within a minute or so.
     *
     * @throws HomeKvException FAILED if the server lives in memory alone, or could not write the file
     */
    public SnapshotFileInfo snapshot() {
        SnapshotResponse response = connection.await(untimed -> untimed.snapshot(Empty.getDefaultInstance()));
        return new SnapshotFileInfo(
                response.getName(), response.getRevision(), response.getKeys(), response.getBytes());
    }

    /**
     * Writes a backup of the whole store, of one revision, as the server sends it; the server is held up by {@code out} and
     * nobody else is. The client's timeout is for how long the server may be silent. What was written is of use only if
     * this returns; {@code out} stays open.
     *
     * @return which revision it is of and how long it is, with an empty name
     * @throws HomeKvException OUT_OF_RANGE if it took so long that the server has no room left for what has been overwritten
     *     since; every other reason as with other reads
     * @throws IOException if {@code out} throws it
     */
    public SnapshotFileInfo backup(OutputStream out) throws IOException {
        for (int attempt = 1; ; attempt++) {
            long bytes = 0;
            try (ResponseStream<BackupResponse> parts =
                    connection.open(HomeKvServiceGrpc.getBackupMethod(), Empty.getDefaultInstance())) {
                SnapshotFileInfo whole = null;
                for (BackupResponse part; (part = parts.next(connection.timeoutNanos())) != null; ) {
                    part.getData().writeTo(out);
                    bytes += part.getData().size();
                    whole = part.hasRevision()
                            ? new SnapshotFileInfo("", part.getRevision(), part.getKeys(), part.getBytes())
                            : null;
                }
                if (whole == null || whole.bytes() != bytes) {
                    throw connection.wrongAnswer("ended a backup that is not whole");
                }
                return whole;
            } catch (StatusRuntimeException e) {
                // Nothing is sent a second time that has been written already.
                if (bytes > 0 || attempt == Connection.MAX_READ_ATTEMPTS || !connection.pausedToRetry(e, attempt)) {
                    throw connection.failure(e, false);
                }
            }
        }
    }

    /** How many callers wait to be sent together. */
    int gathered() {
        return gets.waiting() + sets.waiting();
    }

    private static OptionalLong optional(boolean present, long value) {
        return present ? OptionalLong.of(value) : OptionalLong.empty();
    }

    private static ByteString unsafeWrap(Bytes bytes) {
        return ClientMessages.unsafeWrap(bytes);
    }

    /** Ends the connection and the calls under way, streams and watches included. */
    @Override
    public void close() {
        connection.close();
    }
}
