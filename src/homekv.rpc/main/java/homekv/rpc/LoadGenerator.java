package homekv.rpc;

import com.google.protobuf.ByteString;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Write;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import java.util.SplittableRandom;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.function.LongSupplier;
import java.util.function.Predicate;
import java.util.random.RandomGenerator;

/**
 * Measures a server: makes calls of it, so many at once or so many a second, and tells how many it answered, what they
 * took of the processors, and how long they took.
 *
 * <p>Its keys are a prefix and ten digits. It {@link #fill}s them before it {@link #run}s, and {@link #clear}s them if it
 * is told to; it never writes any other key. Calls are made by callbacks on the thread of each connection, so that the load
 * takes little of the processors that it may share with the server.
 *
 * <p>One thread uses it, but for {@link #stop}, which any thread may call. What blocks does so until it is done, or the
 * server has not answered for the timeout.
 */
public final class LoadGenerator implements AutoCloseable {
    /** How many digits a key ends with. */
    public static final int KEY_DIGITS = 10;

    public static final int MAX_KEYS = 100_000_000;
    public static final int MAX_VALUE_BYTES = 16 << 20;
    public static final int MAX_KEYS_PER_CALL = 10_000;
    public static final int MAX_IN_FLIGHT = 10_000;
    public static final int MAX_CONNECTIONS = 64;
    public static final long MAX_CALLS_PER_SECOND = 1_000_000;
    public static final long MAX_CALLS = 1_000_000_000_000L;
    public static final Duration MAX_DURATION = Duration.ofDays(1);

    /** How many bytes of values all calls in flight may have together, in requests or answers. */
    public static final long MAX_BYTES_IN_FLIGHT = 256 << 20;

    private static final int KEYS_AT_ONCE = 1_000;
    private static final long BYTES_AT_ONCE = 1 << 20;

    private static final long NO_CALL = Long.MIN_VALUE;

    /** How soon who waits for a time sees that nothing is to be done then any more. */
    private static final long LONGEST_WAIT_NANOS = 50_000_000;

    /** Within any context but the root, a client sends each call by itself. */
    private static final Context UNGATHERED = Context.ROOT.withValue(Context.key("ungathered"), true);

    /**
     * The keys that are read and written.
     *
     * @param prefix what they begin with
     * @param count how many there are
     * @param valueBytes how long the value of each is
     * @param zipfTheta 0: each is as likely to be chosen as any other; else, below 1, the exponent of Zipf's law, with
     *     which few are chosen often
     */
    public record Keys(Bytes prefix, int count, int valueBytes, double zipfTheta) {
        public Keys {
            requireInRange("count", count, 1, MAX_KEYS);
            requireInRange("valueBytes", valueBytes, 0, MAX_VALUE_BYTES);
            if (!(zipfTheta >= 0 && zipfTheta < 1)) {
                throw new IllegalArgumentException("zipfTheta is " + zipfTheta + "; it has to be from 0 to below 1");
            }
        }

        /** How long each key is. */
        public int keyBytes() {
            return prefix.length() + KEY_DIGITS;
        }

        /** The key with this number, from 0 on. */
        public Bytes key(int number) {
            byte[] key = new byte[keyBytes()];
            System.arraycopy(prefix.unsafeArray(), 0, key, 0, prefix.length());
            int rest = number;
            for (int i = key.length - 1; i >= prefix.length(); i--) {
                key[i] = (byte) ('0' + rest % 10);
                rest /= 10;
            }
            return Bytes.unsafeWrap(key);
        }

        /** The value that all keys are given: letters, the same each time. */
        Bytes value() {
            byte[] value = new byte[valueBytes];
            SplittableRandom random = new SplittableRandom(valueBytes);
            for (int i = 0; i < value.length; i++) {
                value[i] = (byte) ('a' + random.nextInt(26));
            }
            return Bytes.unsafeWrap(value);
        }

        private int keysAtOnce() {
            return Math.clamp(BYTES_AT_ONCE / (keyBytes() + valueBytes), 1, KEYS_AT_ONCE);
        }
    }

    /** Who makes the calls. */
    public enum Callers {
        /** Nobody waits: callbacks do, which costs least. */
        CALLBACKS,

        /** Virtual threads, one for each call in flight, through a {@link HomeKvClient}, each call by itself. */
        VIRTUAL_THREADS,

        /** Platform threads, one for each call in flight, through a {@link HomeKvClient}, each call by itself. */
        PLATFORM_THREADS,

        /** Virtual threads through a {@link HomeKvClient}, which gathers what they ask at once. */
        GATHERED_VIRTUAL_THREADS,

        /** Platform threads through a {@link HomeKvClient}, which gathers what they ask at once. */
        GATHERED_PLATFORM_THREADS;

        private boolean gather() {
            return this == GATHERED_VIRTUAL_THREADS || this == GATHERED_PLATFORM_THREADS;
        }

        private ThreadFactory threads() {
            boolean platform = this == PLATFORM_THREADS || this == GATHERED_PLATFORM_THREADS;
            return (platform ? Thread.ofPlatform().daemon() : Thread.ofVirtual())
                    .name("load-caller")
                    .factory();
        }
    }

    /**
     * What calls to make. Immutable.
     *
     * @param keys of which keys
     * @param readPercent how many of a hundred calls are gets; the others are sets
     * @param keysPerCall how many keys each has
     * @param inFlight how many calls are under way at once: always, or with {@code callsPerSecond} at the most
     * @param callsPerSecond 0: each call is followed by the next; else calls begin at fixed times, whether those before them
     *     have been answered or not, and how long one takes counts from when it was to begin
     * @param warmUpCalls how many calls are made before those that are measured, each followed by the next
     * @param calls how many calls are measured at the most
     * @param duration for how long calls are begun at the most
     * @param seed which keys: the same seed makes the same calls again
     * @param callers who makes them; with {@code callsPerSecond}, callbacks only
     */
    public record Plan(
            Keys keys,
            int readPercent,
            int keysPerCall,
            int inFlight,
            long callsPerSecond,
            long warmUpCalls,
            long calls,
            Duration duration,
            long seed,
            Callers callers) {

        public Plan {
            requireInRange("readPercent", readPercent, 0, 100);
            requireInRange("keysPerCall", keysPerCall, 1, MAX_KEYS_PER_CALL);
            requireInRange("inFlight", inFlight, 1, MAX_IN_FLIGHT);
            requireInRange("callsPerSecond", callsPerSecond, 0, MAX_CALLS_PER_SECOND);
            requireInRange("warmUpCalls", warmUpCalls, 0, MAX_CALLS);
            requireInRange("calls", calls, 1, MAX_CALLS);
            requireInRange("duration in ms", duration.toMillis(), 1, MAX_DURATION.toMillis());
            long bytes = (long) inFlight * keysPerCall * keys.valueBytes();
            requireInRange("inFlight * keysPerCall * valueBytes", bytes, 0, MAX_BYTES_IN_FLIGHT);
            if (callsPerSecond > 0 && callers != Callers.CALLBACKS) {
                throw new IllegalArgumentException("threads make calls one after the other, not at a rate");
            }
        }

        /** Calls by callbacks, each followed by the next; none to warm up. */
        public static Plan of(Keys keys, int readPercent, int keysPerCall, int inFlight, Duration duration) {
            return new Plan(keys, readPercent, keysPerCall, inFlight, 0, 0, MAX_CALLS, duration, 0, Callers.CALLBACKS);
        }

        /** This plan with so many calls at the most. */
        public Plan withCalls(long calls) {
            return with(callsPerSecond, warmUpCalls, calls, duration, callers);
        }

        /** This plan after so many calls that are not measured. */
        public Plan withWarmUpCalls(long warmUpCalls) {
            return with(callsPerSecond, warmUpCalls, calls, duration, callers);
        }

        /** This plan at a rate; 0 for none. */
        public Plan withCallsPerSecond(long callsPerSecond) {
            return with(callsPerSecond, warmUpCalls, calls, duration, callers);
        }

        /** This plan for so long at the most. */
        public Plan withDuration(Duration duration) {
            return with(callsPerSecond, warmUpCalls, calls, duration, callers);
        }

        /** This plan made by others. */
        public Plan withCallers(Callers callers) {
            return with(callsPerSecond, warmUpCalls, calls, duration, callers);
        }

        private Plan with(long perSecond, long warmUp, long atMost, Duration time, Callers who) {
            return new Plan(keys, readPercent, keysPerCall, inFlight, perSecond, warmUp, atMost, time, seed, who);
        }
    }

    /**
     * What came of a run.
     *
     * @param calls how many calls were answered
     * @param failedCalls how many were not, or not with what was asked for
     * @param lateCalls how many were to begin while the run went on and never did, because too many were in flight
     * @param keys how many keys the answered calls had
     * @param nanos how long it took, from the first call to the last answer
     * @param latencies how long each answered call took
     * @param serverCpuMicros what the server's process took of the processors meanwhile, if it says so
     * @param clientCpuMicros what this process took
     * @param failure what ended the run early, or null
     */
    public record Outcome(
            long calls,
            long failedCalls,
            long lateCalls,
            long keys,
            long nanos,
            Latencies latencies,
            OptionalLong serverCpuMicros,
            long clientCpuMicros,
            HomeKvException failure) {

        public double callsPerSecond() {
            return calls * 1e9 / Math.max(1, nanos);
        }

        public double keysPerSecond() {
            return keys * 1e9 / Math.max(1, nanos);
        }

        /** Empty where the server does not say what it took, or took less than can be measured. */
        public OptionalDouble callsPerServerCpuSecond() {
            return serverCpuMicros.orElse(0) == 0
                    ? OptionalDouble.empty()
                    : OptionalDouble.of(calls * 1e6 / serverCpuMicros.getAsLong());
        }
    }

    private final List<Connection> connections = new ArrayList<>();
    private final List<HomeKvClient> clients = new ArrayList<>();
    private final LongSupplier nanoClock;
    private volatile boolean stopped;

    /**
     * A load on the server at a host and port. Does not connect yet.
     *
     * @param timeout how long the server may leave calls without any answer
     * @param connectionCount over how many connections calls are spread
     * @throws HomeKvException if no host can have that name
     */
    public LoadGenerator(String host, int port, Duration timeout, int connectionCount) {
        this(host, port, timeout, connectionCount, System::nanoTime);
    }

    LoadGenerator(String host, int port, Duration timeout, int connectionCount, LongSupplier nanoClock) {
        requireInRange("connectionCount", connectionCount, 1, MAX_CONNECTIONS);
        this.nanoClock = nanoClock;
        for (int i = 0; i < connectionCount; i++) {
            Connection connection = new Connection(host, port, timeout);
            connections.add(connection);
            clients.add(new HomeKvClient(connection));
        }
    }

    private static void requireInRange(String name, long value, long least, long most) {
        if (value < least || value > most) {
            throw new IllegalArgumentException(
                    name + " is " + value + "; it has to be " + least + " at the least and " + most + " at the most");
        }
    }

    // ---- Keys ----

    /** Whether the server has one of these keys already. Reads them all. */
    public boolean hasAny(Keys keys) {
        return inParts(
                keys, (client, part) -> client.get(part).values().stream().anyMatch(value -> value != null));
    }

    /** Sets every key. Returns false if it was stopped before the last one. */
    public boolean fill(Keys keys) {
        Bytes value = keys.value();
        return !inParts(keys, (client, part) -> {
            if (stopped) {
                return true;
            }
            client.set(
                    part.stream().<Write>map(key -> new Write.Put(key, value)).toList());
            return false;
        });
    }

    /** Deletes every key, also if it was stopped. */
    public void clear(Keys keys) {
        inParts(keys, (client, part) -> {
            client.del(part);
            return false;
        });
    }

    private interface Step {
        boolean isLast(HomeKvClient client, List<Bytes> part);
    }

    /** Takes all keys in their order, many at once, until a step is the last. Returns whether one was. */
    private boolean inParts(Keys keys, Step step) {
        int atOnce = keys.keysAtOnce();
        List<Bytes> part = new ArrayList<>(atOnce);
        for (int number = 0; number < keys.count(); number++) {
            part.add(keys.key(number));
            if (part.size() == atOnce || number == keys.count() - 1) {
                if (step.isLast(clients.get(0), part)) {
                    return true;
                }
                part.clear();
            }
        }
        return false;
    }

    // ---- Runs ----

    /** Ends the run under way, and those to come, as soon as the calls in flight are answered. Any thread. */
    public void stop() {
        stopped = true;
    }

    /**
     * Makes the calls of a plan, and blocks until the last is answered, one fails and those in flight have ended, or it is
     * stopped. The keys have to be there: a get that does not find one has failed. Where one of those that warm up fails,
     * nothing has been measured, and the outcome has the failure and no calls.
     */
    public Outcome run(Plan plan) throws InterruptedException {
        Calls calls = new Calls(plan);
        if (plan.warmUpCalls() > 0) {
            Outcome warmUp = new Phase(calls, -plan.warmUpCalls(), 0, MAX_DURATION, 0).run();
            if (warmUp.failure() != null) {
                return new Outcome(0, 0, 0, 0, 0, new Latencies(), OptionalLong.empty(), 0, warmUp.failure());
            }
        }
        return new Phase(calls, 0, plan.calls(), plan.duration(), plan.callsPerSecond()).run();
    }

    /** Unknown where the server is too old to say, or does not answer; why it does not, the calls find out as well. */
    private OptionalLong serverCpuMicros() {
        try {
            Long micros = clients.get(0).metrics().get("process_cpu_micros");
            return micros == null || micros == 0 ? OptionalLong.empty() : OptionalLong.of(micros);
        } catch (HomeKvException e) {
            return OptionalLong.empty();
        }
    }

    /** The calls of a plan. What the one with a number is depends on the seed and nothing else. */
    private static final class Calls {
        private final Plan plan;
        private final Zipf zipf;
        private final Bytes value;
        private final ByteString valueOnWire;

        Calls(Plan plan) {
            this.plan = plan;
            this.zipf = plan.keys().zipfTheta() == 0
                    ? null
                    : new Zipf(plan.keys().count(), plan.keys().zipfTheta());
            this.value = plan.keys().value();
            this.valueOnWire = ClientMessages.unsafeWrap(value);
        }

        /** What decides whether the call reads, and then its keys. */
        RandomGenerator random(long number) {
            return new SplittableRandom(new SplittableRandom(plan.seed() + number).nextLong());
        }

        boolean reads(RandomGenerator random) {
            return random.nextInt(100) < plan.readPercent();
        }

        private Bytes key(RandomGenerator random) {
            Keys keys = plan.keys();
            return keys.key(zipf != null ? zipf.next(random) : random.nextInt(keys.count()));
        }

        List<Bytes> keys(RandomGenerator random) {
            List<Bytes> keys = new ArrayList<>(plan.keysPerCall());
            for (int i = 0; i < plan.keysPerCall(); i++) {
                keys.add(key(random));
            }
            return keys;
        }

        List<Write> writes(RandomGenerator random) {
            return keys(random).stream()
                    .<Write>map(key -> new Write.Put(key, value))
                    .toList();
        }

        GetRequest get(RandomGenerator random) {
            GetRequest.Builder request = GetRequest.newBuilder();
            for (int i = 0; i < plan.keysPerCall(); i++) {
                request.addKeys(ClientMessages.unsafeWrap(key(random)));
            }
            return request.build();
        }

        SetRequest set(RandomGenerator random) {
            SetRequest.Builder request = SetRequest.newBuilder();
            for (int i = 0; i < plan.keysPerCall(); i++) {
                request.addRecords(Record.newBuilder()
                        .setKey(ClientMessages.unsafeWrap(key(random)))
                        .setValue(valueOnWire));
            }
            return request.build();
        }

        boolean isAnswer(GetResponse response) {
            if (response.getRecordsCount() != plan.keysPerCall()) {
                return false;
            }
            for (int i = 0; i < plan.keysPerCall(); i++) {
                if (!response.getRecords(i).hasValue()) {
                    return false;
                }
            }
            return true;
        }
    }

    /** So many calls of one kind: those that warm up, or those that are measured. */
    private final class Phase {
        private final Calls calls;
        private final Plan plan;
        private final long firstNumber;
        private final long endNumber;
        private final long durationNanos;
        private final long callsPerSecond;

        private final Latencies latencies = new Latencies();
        private final AtomicReference<HomeKvException> failure = new AtomicReference<>();

        /** The number of the next call; beyond the end for each slot that found no more. */
        private final AtomicLong nextNumber;

        /** Those that have no call under way. */
        private final BlockingQueue<Slot> idle = new LinkedBlockingQueue<>();

        private long startNanos;
        private long lateCalls;

        /** No call is begun any more. */
        private volatile boolean over;

        /** The server does not answer, and calls are left under way. Only the thread that runs it uses this. */
        private boolean stalled;

        Phase(Calls calls, long firstNumber, long endNumber, Duration duration, long callsPerSecond) {
            this.calls = calls;
            this.plan = calls.plan;
            this.firstNumber = firstNumber;
            this.endNumber = endNumber;
            this.durationNanos = duration.toNanos();
            this.callsPerSecond = callsPerSecond;
            this.nextNumber = new AtomicLong(firstNumber);
        }

        Outcome run() throws InterruptedException {
            List<Slot> slots = new ArrayList<>();
            for (int i = 0; i < plan.inFlight(); i++) {
                slots.add(new Slot(this, i % connections.size()));
            }
            OptionalLong serverMicrosBefore = serverCpuMicros();
            long clientMicrosBefore = ProcessorTime.micros();
            startNanos = nanoClock.getAsLong();
            try {
                if (callsPerSecond > 0) {
                    idle.addAll(slots);
                    beginAtRate();
                } else if (plan.callers() == Callers.CALLBACKS) {
                    slots.forEach(slot -> slot.beginNext(nanoClock.getAsLong()));
                } else {
                    startThreads(slots);
                }
                for (int i = 0; i < slots.size() && !stalled; i++) {
                    awaitIdle();
                }
            } finally {
                over = true;
            }
            long nanos = nanoClock.getAsLong() - startNanos;
            long clientMicros = ProcessorTime.micros() - clientMicrosBefore;
            HomeKvException why = failure.get();
            boolean gone = why != null && why.reason() == HomeKvException.Reason.UNREACHABLE;
            OptionalLong serverMicros =
                    serverMicrosBefore.isPresent() && !gone ? serverCpuMicros() : OptionalLong.empty();
            if (serverMicros.isPresent()) {
                serverMicros = OptionalLong.of(serverMicros.getAsLong() - serverMicrosBefore.getAsLong());
            }
            long answered = latencies.count();
            return new Outcome(
                    answered,
                    Math.min(endNumber, nextNumber.get()) - firstNumber - answered,
                    lateCalls,
                    answered * plan.keysPerCall(),
                    nanos,
                    latencies,
                    serverMicros,
                    clientMicros,
                    why);
        }

        /** The number of a call that is to be begun now, or {@link #NO_CALL}. */
        private long claim(long nowNanos) {
            if (over || stopped || nowNanos - startNanos >= durationNanos) {
                return NO_CALL;
            }
            long number = nextNumber.getAndIncrement();
            return number < endNumber ? number : NO_CALL;
        }

        private void fail(HomeKvException e) {
            failure.compareAndSet(null, e);
            over = true;
        }

        private void startThreads(List<Slot> slots) {
            ThreadFactory threads = plan.callers().threads();
            for (Slot slot : slots) {
                Runnable calls = slot::callUntilOver;
                threads.newThread(plan.callers().gather() ? calls : UNGATHERED.wrap(calls))
                        .start();
            }
        }

        /** Begins each call when it is due, or as soon after that as fewer are in flight than may be. */
        private void beginAtRate() throws InterruptedException {
            double periodNanos = 1e9 / callsPerSecond;
            for (long number = firstNumber; number < endNumber; number++) {
                long dueNanos = (long) ((number - firstNumber) * periodNanos);
                if (dueNanos >= durationNanos) {
                    return;
                }
                awaitTime(startNanos + dueNanos);
                Slot slot = awaitIdle();
                if (slot == null) {
                    return;
                }
                if (claim(nanoClock.getAsLong()) != number) {
                    idle.add(slot);
                    lateCalls = over || stopped
                            ? 0
                            : Math.min(endNumber, firstNumber + (long) Math.ceil(durationNanos / periodNanos)) - number;
                    return;
                }
                slot.begin(number, startNanos + dueNanos);
            }
        }

        private void awaitTime(long untilNanos) {
            for (long wait; (wait = untilNanos - nanoClock.getAsLong()) > 0 && !over && !stopped; ) {
                LockSupport.parkNanos(this, Math.min(wait, LONGEST_WAIT_NANOS));
            }
        }

        /** A slot that has no call under way; null where no call has been answered for the timeout. */
        private Slot awaitIdle() throws InterruptedException {
            Slot slot = idle.poll();
            for (long answered = -1; slot == null; ) {
                long answeredBefore = answered;
                answered = latencies.count();
                if (answered == answeredBefore) {
                    stalled = true;
                    fail(connections.get(0).failure(Status.DEADLINE_EXCEEDED.asRuntimeException(), false));
                    return null;
                }
                slot = idle.poll(timeoutNanos(), TimeUnit.NANOSECONDS);
            }
            return slot;
        }
    }

    private long timeoutNanos() {
        return connections.get(0).timeoutNanos();
    }

    /** Makes one call after the other. Whoever has it uses it: the thread of its connection, or the one that runs the phase. */
    private final class Slot {
        private final Phase phase;
        private final Calls calls;
        private final Connection connection;
        private final HomeKvClient client;

        Slot(Phase phase, int connection) {
            this.phase = phase;
            this.calls = phase.calls;
            this.connection = connections.get(connection);
            this.client = clients.get(connection);
        }

        void beginNext(long nowNanos) {
            long number = phase.claim(nowNanos);
            if (number == NO_CALL) {
                phase.idle.add(this);
            } else {
                begin(number, nowNanos);
            }
        }

        /** Begins a call, which takes its time from {@code sinceNanos} on. */
        void begin(long number, long sinceNanos) {
            RandomGenerator random = calls.random(number);
            if (calls.reads(random)) {
                send(HomeKvServiceGrpc.getGetMethod(), calls.get(random), calls::isAnswer, false, sinceNanos);
            } else {
                send(HomeKvServiceGrpc.getSetMethod(), calls.set(random), SetResponse::getSucc, true, sinceNanos);
            }
        }

        private <Q, R> void send(
                MethodDescriptor<Q, R> method, Q request, Predicate<R> isAnswer, boolean write, long sinceNanos) {
            ClientCall<Q, R> call = connection.newCall(method);
            call.start(
                    new ClientCall.Listener<>() {
                        private boolean answered;

                        @Override
                        public void onMessage(R response) {
                            answered = isAnswer.test(response);
                        }

                        @Override
                        public void onClose(Status status, Metadata trailers) {
                            if (!status.isOk()) {
                                ended(sinceNanos, connection.failure(status.asRuntimeException(trailers), write));
                            } else {
                                ended(sinceNanos, answered ? null : wrongAnswer(write));
                            }
                        }
                    },
                    new Metadata());
            call.request(2); // With one, a second answer would not be noticed.
            call.sendMessage(request);
            call.halfClose();
        }

        private HomeKvException wrongAnswer(boolean write) {
            return connection.wrongAnswer(
                    write ? "did not carry out the set" : "answered a get without a value for each of its keys");
        }

        private void ended(long sinceNanos, HomeKvException failure) {
            long now = nanoClock.getAsLong();
            if (failure != null) {
                phase.fail(failure);
                phase.idle.add(this);
                return;
            }
            phase.latencies.add(now - sinceNanos);
            if (phase.callsPerSecond > 0) {
                phase.idle.add(this);
            } else {
                beginNext(now);
            }
        }

        /** Makes calls as a thread does that waits for each. */
        void callUntilOver() {
            try {
                long now = nanoClock.getAsLong();
                for (long number; (number = phase.claim(now)) != NO_CALL; ) {
                    long since = now;
                    RandomGenerator random = calls.random(number);
                    if (!calls.reads(random)) {
                        client.set(calls.writes(random));
                    } else if (client.get(calls.keys(random)).values().contains(null)) {
                        throw wrongAnswer(false);
                    }
                    now = nanoClock.getAsLong();
                    phase.latencies.add(now - since);
                }
            } catch (HomeKvException e) {
                phase.fail(e);
            } finally {
                phase.idle.add(this);
            }
        }
    }

    /** Ends the connections. */
    @Override
    public void close() {
        connections.forEach(Connection::close);
    }
}
