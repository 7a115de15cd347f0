package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Objects;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.LongPredicate;
import org.junit.jupiter.api.Test;

/**
 * Random commands, snapshots, leases, compactions and sweeps against a reference that keeps a full copy of the store for
 * every revision: S2 to S7, S12, S13 and S16, all at once.
 */
class ModelTest {
    // ---- The reference ----

    /** The store as a person would write it who has all the memory in the world. */
    static final class Reference {
        final Limits limits;
        final List<TreeMap<Bytes, Entry>> revisions = new ArrayList<>(List.of(new TreeMap<>()));

        /** By revision: when it was made, and what the history window is charged for it at the least and at the most. */
        final List<Long> madeNanos = new ArrayList<>(List.of(0L));

        final List<Long> leastKeptBytes = new ArrayList<>(List.of(0L));
        final List<Long> mostKeptBytes = new ArrayList<>(List.of(0L));

        /** By key and revision: whether the key was there after it was written. */
        final Map<Bytes, TreeMap<Long, Boolean>> histories = new TreeMap<>();

        final TreeMap<Long, Lease> leases = new TreeMap<>();

        /** The highest revision that has been compacted to, or that the last sweep should have come to at the least. */
        long compacted;

        /** What the last sweep may have come to at the most. */
        long mostCompacted;

        long nowNanos;
        long sets;
        long dels;
        long txns;
        long gets;

        Reference(Limits limits) {
            this.limits = limits;
        }

        TreeMap<Bytes, Entry> newest() {
            return revisions.get(revisions.size() - 1);
        }

        long revision() {
            return revisions.size() - 1;
        }

        List<Entry> read(long revision, List<Bytes> keys) {
            return Arrays.asList(
                    keys.stream().map(revisions.get((int) revision)::get).toArray(Entry[]::new));
        }

        // ---- Commands ----

        Result apply(Command command) {
            return switch (command) {
                case Command.Compact compact -> {
                    if (compact.revision() < compacted || compact.revision() > revision()) {
                        yield new Result.OutOfRange(compact.revision(), compacted, revision());
                    }
                    compacted = compact.revision();
                    yield new Result.Applied(revision(), 0);
                }
                case Command.Grant grant -> {
                    if (leases.containsKey(grant.lease())) {
                        yield new Result.LeaseExists(grant.lease());
                    }
                    long deadline = nowNanos + grant.ttlMillis() * 1_000_000;
                    leases.put(grant.lease(), new Lease(grant.lease(), grant.ttlMillis(), deadline));
                    yield new Result.Applied(revision(), 0);
                }
                case Command.Set set -> new Attempt(this).run(attempt -> attempt.set(set));
                case Command.Del del -> new Attempt(this).run(attempt -> attempt.del(del));
                case Command.Revoke revoke -> new Attempt(this).run(attempt -> attempt.revoke(revoke));
                case Txn txn -> new Attempt(this).run(attempt -> attempt.transact(txn));
            };
        }

        /** Ends the leases whose time is over, in the order of their deadlines as they were last looked at. */
        void expire() {
            while (!leases.isEmpty()) {
                Lease first = leases.values().stream()
                        .min(Comparator.comparingLong(lease -> lease.lookedAtDeadline))
                        .orElseThrow();
                if (first.lookedAtDeadline >= nowNanos) {
                    return;
                }
                if (first.ending || first.deadline == first.lookedAtDeadline) {
                    first.ending = true;
                    apply(new Command.Revoke(first.id, 1_000));
                } else {
                    first.lookedAtDeadline = first.deadline;
                }
            }
        }

        LeaseStatus keepAlive(long id) {
            Lease lease = leases.get(id);
            if (lease == null || lease.ending) {
                return null;
            }
            lease.deadline = nowNanos + lease.ttlMillis * 1_000_000;
            return status(id);
        }

        LeaseStatus status(long id) {
            Lease lease = leases.get(id);
            if (lease == null) {
                return null;
            }
            long leftNanos = lease.ending ? 0 : Math.max(1, lease.deadline - nowNanos);
            return new LeaseStatus(id, lease.ttlMillis, (leftNanos + 999_999) / 1_000_000, lease.keys.size());
        }

        // ---- History ----

        List<Event> history(Bytes key, long from, int max) {
            List<Event> events = new ArrayList<>();
            Entry first = revisions.get((int) from).get(key);
            if (first != null) {
                events.add(new Event.Put(first, null));
            }
            histories.getOrDefault(key, new TreeMap<>()).tailMap(from, false).forEach((revision, live) -> {
                events.add(
                        live
                                ? new Event.Put(
                                        revisions.get(revision.intValue()).get(key), null)
                                : new Event.Delete(key, revision, null));
            });
            return events.subList(0, Math.min(max, events.size()));
        }

        /** S13: how far a sweep compacts the history to keep its window within its limits, and no further. */
        void sweep() {
            mostCompacted = compacted(mostKeptBytes);
            compacted = compacted(leastKeptBytes);
        }

        private long compacted(List<Long> keptBytes) {
            long bytes = 0;
            for (long revision = revision(); revision > compacted; revision--) {
                bytes += keptBytes.get((int) revision);
                long ageNanos = nowNanos - madeNanos.get((int) revision);
                if (bytes > limits.historyBytes() || ageNanos > limits.historyMillis() * 1_000_000) {
                    return revision;
                }
            }
            return compacted;
        }

        /**
         * S6: how many versions are read by the revisions from the compact one on, and by the snapshots below it. A
         * tombstone is read where a key is absent, and is not needed where nothing older is: there the key is absent
         * anyway, unless the history still tells of the deletion.
         */
        long[] versionsNeeded(Collection<Long> pinned) {
            long needed = 0;
            long spare = 0;
            for (TreeMap<Long, Boolean> livesByRevision : histories.values()) {
                NavigableMap<Long, Boolean> inWindow = livesByRevision.tailMap(compacted, false);
                TreeMap<Long, Boolean> read = new TreeMap<>(inWindow);
                put(read, livesByRevision.floorEntry(compacted));
                for (long revision : pinned) {
                    put(read, livesByRevision.floorEntry(Math.min(revision, compacted)));
                }
                while (!read.isEmpty() && !read.firstEntry().getValue() && read.firstKey() <= compacted) {
                    read.pollFirstEntry();
                    spare += inWindow.size() > 8 ? 1 : 0; // Found only where few versions are in front of it.
                }
                needed += read.size();
            }
            return new long[] {needed, needed + spare};
        }

        private static void put(TreeMap<Long, Boolean> read, Map.Entry<Long, Boolean> version) {
            if (version != null) {
                read.put(version.getKey(), version.getValue());
            }
        }
    }

    static final class Lease {
        final long id;
        final long ttlMillis;
        long deadline;
        long lookedAtDeadline;
        boolean ending;

        final TreeSet<Bytes> keys = new TreeSet<>();

        Lease(long id, long ttlMillis, long deadline) {
            this.id = id;
            this.ttlMillis = ttlMillis;
            this.deadline = deadline;
            this.lookedAtDeadline = deadline;
        }
    }

    /** Ends a command of the reference that is refused. */
    private static final class Refusal extends RuntimeException {
        private static final long serialVersionUID = 1;

        final transient Result result;

        Refusal(Result result) {
            this.result = result;
        }
    }

    /** One command of the reference, carried out on a copy. */
    private static final class Attempt {
        interface Body {
            Result run(Attempt attempt);
        }

        private final Reference reference;
        private final TreeMap<Bytes, Entry> before;
        private final TreeMap<Bytes, Entry> now;
        private final long revision;
        private final Set<Bytes> written = new TreeSet<>();
        private int deletedKeys;
        private int sets;
        private int dels;
        private int txns;
        private Lease revoked;

        Attempt(Reference reference) {
            this.reference = reference;
            this.before = reference.newest();
            this.now = new TreeMap<>(before);
            this.revision = reference.revision() + 1;
        }

        Result run(Body body) {
            Map<Long, List<Bytes>> attachedBefore = new TreeMap<>();
            reference.leases.forEach((id, lease) -> attachedBefore.put(id, List.copyOf(lease.keys)));
            Result result;
            try {
                result = body.run(this);
            } catch (Refusal e) {
                attachedBefore.forEach((id, keys) -> {
                    reference.leases.get(id).keys.clear();
                    reference.leases.get(id).keys.addAll(keys);
                });
                return e.result;
            }
            reference.sets += sets;
            reference.dels += dels;
            reference.txns += txns;
            if (changed()) {
                publish();
            }
            reference.leases.values().removeIf(lease -> lease.ending && lease.keys.isEmpty());
            if (revoked != null) {
                revoked.ending = true;
                if (revoked.keys.isEmpty()) {
                    reference.leases.remove(revoked.id);
                }
            }
            return result;
        }

        /** A key that was absent before and is again has not been changed. */
        private boolean changed(Bytes key) {
            return before.containsKey(key) || now.containsKey(key);
        }

        private boolean changed() {
            return written.stream().anyMatch(this::changed);
        }

        private void publish() {
            Footprint footprint = new Footprint(false, 0);
            long kept = footprint.commitBytes(
                    (int) written.stream().filter(this::changed).count());
            long notNeeded = 0;
            for (Bytes key : written) {
                if (!changed(key)) {
                    continue;
                }
                Entry old = before.get(key);
                if (old != null) {
                    kept += footprint.putBytes(old.value().length(), old.lease());
                    // Its key's first version needs no object of its own, unless the key was there as a deleted one.
                    notNeeded += old.version() == 1 && old.lease() == 0 ? footprint.spareBytes() : 0;
                }
                if (!now.containsKey(key)) {
                    kept += footprint.tombstoneBytes() + footprint.keyBytes(key.length());
                }
                if (lease(old) != lease(now.get(key)) && lease(old) != 0) {
                    reference.leases.get(lease(old)).keys.remove(key);
                }
                reference.histories.computeIfAbsent(key, k -> new TreeMap<>()).put(revision, now.containsKey(key));
            }
            reference.revisions.add(now);
            reference.madeNanos.add(reference.nowNanos);
            reference.leastKeptBytes.add(kept - notNeeded);
            reference.mostKeptBytes.add(kept);
        }

        private static long lease(Entry entry) {
            return entry == null ? 0 : entry.lease();
        }

        private Result applied() {
            return new Result.Applied(changed() ? revision : revision - 1, deletedKeys);
        }

        Result set(Command.Set set) {
            sets = 1;
            Map<Bytes, Write> lastByKey = new LinkedHashMap<>();
            set.writes().forEach(write -> lastByKey.put(write.key(), write));
            for (Write write : lastByKey.values()) {
                if (write instanceof Write.Put put) {
                    put(put.key(), put.value(), put.lease());
                } else {
                    delete(write.key());
                }
            }
            return applied();
        }

        Result del(Command.Del del) {
            dels = 1;
            del.keys().forEach(this::delete);
            return applied();
        }

        Result revoke(Command.Revoke revoke) {
            revoked = reference.leases.get(revoke.lease());
            if (revoked == null) {
                throw new Refusal(new Result.NoLease(revoke.lease()));
            }
            revoked.keys.stream().limit(revoke.maxKeys()).toList().forEach(this::delete);
            return applied();
        }

        Result transact(Txn txn) {
            txns = 1;
            OpResult.Transacted transacted = carryOut(txn);
            return new Result.Transacted(
                    changed() ? revision : revision - 1, transacted.succeeded(), transacted.results());
        }

        private OpResult.Transacted carryOut(Txn txn) {
            boolean succeeded = txn.compares().stream().allMatch(this::holds);
            List<OpResult> results = new ArrayList<>();
            for (Op step : succeeded ? txn.then() : txn.otherwise()) {
                results.add(
                        switch (step) {
                            case Op.Get get -> new OpResult.Got(now.get(get.key()));
                            case Op.Scan scan -> scan(scan);
                            case Op.Put put -> {
                                Entry previous = now.get(put.key());
                                put(put.key(), put.value(), put.lease());
                                yield new OpResult.Put(put.previous() ? previous : null);
                            }
                            case Op.Delete delete -> {
                                List<Entry> deleted = List.copyOf(in(now, delete.range()));
                                deleted.forEach(entry -> delete(entry.key()));
                                yield new OpResult.Deleted(deleted.size(), delete.previous() ? deleted : List.of());
                            }
                            case Op.Increment increment -> increment(increment);
                            case Txn nested -> carryOut(nested);
                        });
            }
            return new OpResult.Transacted(succeeded, results);
        }

        private OpResult scan(Op.Scan scan) {
            List<Entry> found = in(now, scan.range());
            if (scan.countOnly()) {
                return new OpResult.Scanned(List.of(), found.size(), false);
            }
            if (scan.descending()) {
                found = found.reversed();
            }
            int answered = scan.limit() == 0 ? found.size() : Math.min(scan.limit(), found.size());
            return new OpResult.Scanned(found.subList(0, answered), answered, answered < found.size());
        }

        private OpResult increment(Op.Increment increment) {
            Entry entry = now.get(increment.key());
            String text = entry == null ? "0" : entry.value().utf8();
            BigInteger sum = text.matches("-?[0-9]{1,19}")
                    ? new BigInteger(text).add(BigInteger.valueOf(increment.by()))
                    : BigInteger.ONE.shiftLeft(80);
            if (sum.bitLength() > 63 || text.matches("-?[0-9]+") && new BigInteger(text).bitLength() > 63) {
                throw new Refusal(new Result.NotAnInteger(increment.key()));
            }
            write(increment.key(), Bytes.utf8(sum.toString()), lease(entry));
            return new OpResult.Incremented(sum.longValue());
        }

        private boolean holds(Compare compare) {
            List<Entry> found = in(now, compare.range());
            return switch (compare) {
                case Compare.Count count -> holds(count.operator(), Long.compare(found.size(), count.count()));
                case Compare.Value value ->
                    !found.isEmpty()
                            && found.stream()
                                    .allMatch(entry -> holds(
                                            value.operator(), entry.value().compareTo(value.value())));
                case Compare.Number number -> {
                    LongPredicate holds = actual -> holds(number.operator(), Long.compare(actual, number.number()));
                    yield found.isEmpty()
                            ? holds.test(0)
                            : found.stream().allMatch(entry -> holds.test(number(entry, number.field())));
                }
            };
        }

        private static long number(Entry entry, Compare.Field field) {
            return switch (field) {
                case VERSION -> entry.version();
                case CREATE_REVISION -> entry.createRevision();
                case MODIFICATION_REVISION -> entry.modificationRevision();
                case LEASE -> entry.lease();
            };
        }

        private static boolean holds(Compare.Operator operator, int order) {
            return switch (operator) {
                case EQUAL -> order == 0;
                case NOT_EQUAL -> order != 0;
                case LESS -> order < 0;
                case GREATER -> order > 0;
            };
        }

        private void put(Bytes key, Bytes value, long lease) {
            if (lease != 0 && (!reference.leases.containsKey(lease) || reference.leases.get(lease).ending)) {
                throw new Refusal(new Result.NoLease(lease));
            }
            write(key, value, lease);
        }

        private void write(Bytes key, Bytes value, long lease) {
            Entry last = now.get(key);
            boolean again = last != null && last.modificationRevision() == revision;
            write(
                    key,
                    last == null
                            ? new Entry(key, value, revision, revision, 1, lease)
                            : new Entry(
                                    key,
                                    value,
                                    last.createRevision(),
                                    revision,
                                    last.version() + (again ? 0 : 1),
                                    lease));
        }

        private void delete(Bytes key) {
            if (now.containsKey(key)) {
                deletedKeys++;
                write(key, null);
            }
        }

        private void write(Bytes key, Entry entry) {
            Entry last = entry == null ? now.remove(key) : now.put(key, entry);
            if (lease(entry) != 0) {
                reference.leases.get(lease(entry)).keys.add(key);
            }
            boolean attachedHere = written.contains(key) && lease(last) != 0 && lease(last) != lease(before.get(key));
            if (attachedHere && lease(last) != lease(entry)) {
                reference.leases.get(lease(last)).keys.remove(key);
            }
            written.add(key);
        }
    }

    private static List<Entry> in(Map<Bytes, Entry> entries, Range range) {
        return entries.values().stream()
                .filter(entry -> range.contains(entry.key()))
                .toList();
    }

    // ---- Random commands ----

    /** Commands that often hit what is there: few keys, few leases, revisions and versions that there have been. */
    record Generator(SplittableRandom random, Reference reference, List<Bytes> keys) {
        private static final List<Bytes> VALUES = List.of(
                Bytes.utf8(""),
                Bytes.utf8("0"),
                Bytes.utf8("7"),
                Bytes.utf8("-41"),
                Bytes.utf8("007"),
                Bytes.utf8("9223372036854775807"),
                Bytes.utf8("-9223372036854775808"),
                Bytes.utf8("9223372036854775808"),
                Bytes.utf8("123456789012345678901234567890"),
                Bytes.utf8("1.5"),
                Bytes.utf8("4 "),
                Bytes.utf8("-"),
                Bytes.utf8("٣"),
                Bytes.utf8("beaver"));

        Command command() {
            return switch (random.nextInt(20)) {
                case 0 -> new Command.Compact(revision());
                case 1 -> new Command.Grant(1 + random.nextInt(6), 1 + random.nextInt(60));
                case 2 -> new Command.Revoke(1 + random.nextInt(6), 1 + random.nextInt(3));
                case 3, 4, 5, 6, 7, 8, 9 -> txn(3);
                default -> withLeases(MvccStoreTest.randomCommand(random, keys));
            };
        }

        private Command withLeases(Command command) {
            if (!(command instanceof Command.Set set) || random.nextInt(3) > 0) {
                return command;
            }
            return new Command.Set(set.writes().stream()
                    .map(write -> write instanceof Write.Put put && random.nextBoolean()
                            ? new Write.Put(put.key(), put.value(), lease())
                            : write)
                    .toList());
        }

        private Txn txn(int depth) {
            List<Compare> compares = new ArrayList<>();
            for (int i = random.nextInt(3); i > 0; i--) {
                compares.add(compare());
            }
            return new Txn(compares, steps(depth), random.nextBoolean() ? List.of() : steps(depth));
        }

        private List<Op> steps(int depth) {
            List<Op> steps = new ArrayList<>();
            for (int i = random.nextInt(random.nextInt(4) == 0 ? 7 : 4); i > 0; i--) {
                steps.add(step(depth));
            }
            return steps;
        }

        private Op step(int depth) {
            return switch (random.nextInt(9)) {
                case 0 -> new Op.Get(key());
                case 1 ->
                    new Op.Scan(
                            range(),
                            random.nextBoolean(),
                            random.nextInt(5),
                            random.nextBoolean(),
                            random.nextInt(4) == 0);
                case 2, 3, 4 -> new Op.Put(key(), value(), random.nextInt(3) == 0 ? lease() : 0, random.nextBoolean());
                case 5 -> new Op.Delete(random.nextBoolean() ? Range.key(key()) : range(), random.nextBoolean());
                case 6 -> new Op.Increment(key(), random.nextInt(4) == 0 ? Long.MAX_VALUE : random.nextInt(-9, 10));
                default -> depth == 1 ? new Op.Get(key()) : txn(depth - 1);
            };
        }

        private Compare compare() {
            Range range = random.nextInt(3) == 0 ? range() : Range.key(key());
            Compare.Operator operator = any(Compare.Operator.values());
            return switch (random.nextInt(4)) {
                case 0 -> new Compare.Value(range, operator, value());
                case 1 -> new Compare.Count(range, operator, random.nextInt(4));
                default -> {
                    Compare.Field field = any(Compare.Field.values());
                    yield new Compare.Number(
                            range,
                            field,
                            operator,
                            switch (field) {
                                case VERSION -> random.nextInt(4);
                                case CREATE_REVISION, MODIFICATION_REVISION -> random.nextInt(3) == 0 ? 0 : revision();
                                case LEASE -> lease();
                            });
                }
            };
        }

        Range range() {
            return switch (random.nextInt(6)) {
                case 0 -> Range.all();
                case 1 -> Range.from(key());
                case 2 -> Range.prefix(Bytes.utf8("key-" + (random.nextBoolean() ? "" : random.nextInt(3))));
                case 3 -> Range.key(key());
                default -> new Range(key(), key());
            };
        }

        private <T> T any(T[] values) {
            return values[random.nextInt(values.length)];
        }

        Bytes key() {
            return keys.get(random.nextInt(keys.size()));
        }

        private Bytes value() {
            return random.nextInt(3) > 0
                    ? VALUES.get(random.nextInt(VALUES.size()))
                    : Harness.bytes(random.nextInt(60));
        }

        /** Often one that there is. */
        long lease() {
            List<Long> granted = List.copyOf(reference.leases.keySet());
            return granted.isEmpty() || random.nextInt(12) == 0
                    ? random.nextInt(7)
                    : granted.get(random.nextInt(granted.size()));
        }

        /** Often one that can be read. */
        long revision() {
            long first = reference.compacted;
            long last = reference.revision();
            return random.nextInt(5) == 0 ? random.nextLong(-2, last + 3) : random.nextLong(first, last + 1);
        }
    }

    // ---- One history ----

    @Test
    void theStoreAnswersAsAReferenceThatCopiesEverything() throws Exception {
        Harness.seeded(
                Harness.count(120, 10_000), random -> new Run(random, 1 + random.nextInt(30), limits(random)).run(200));
    }

    /** One key, so that chains become long and every pattern of pins over them comes up. */
    @Test
    void aSingleKeyAnswersAsAReferenceThatCopiesEverything() throws Exception {
        Harness.seeded(Harness.count(60, 5_000), random -> new Run(random, 1, limits(random)).run(300));
    }

    private static Limits limits(SplittableRandom random) {
        long[] bytes = {0, 200, 2_000, 10_000, Harness.ROOMY.memoryBytes()};
        long[] millis = {0, 5, 100, 1L << 40};
        return Harness.ROOMY
                .with(Limit.HISTORY_BYTES, bytes[random.nextInt(bytes.length)])
                .with(Limit.HISTORY_MILLIS, millis[random.nextInt(millis.length)]);
    }

    private static final class Run {
        private final SplittableRandom random;
        private final List<Bytes> keys;
        private final Reference reference;
        private final Generator generator;
        private final Harness kv;
        private final List<Snapshot> open = new ArrayList<>();
        private final int maxOpen;

        Run(SplittableRandom random, int keyCount, Limits limits) {
            this.random = random;
            this.keys = MvccStoreTest.keys(keyCount);
            this.reference = new Reference(limits);
            this.generator = new Generator(random, reference, keys);
            this.kv = new Harness(limits);
            this.maxOpen = random.nextInt(3) == 0 ? 0 : 1 + random.nextInt(40);
        }

        void run(int commands) {
            try (kv) {
                for (int command = 0; command < commands; ) {
                    switch (random.nextInt(20)) {
                        case 0, 1 -> openSnapshot(false);
                        case 2 -> openSnapshot(true);
                        case 3, 4 -> {
                            if (!open.isEmpty()) {
                                open.remove(random.nextInt(open.size())).close();
                            }
                        }
                        case 5 -> sweep();
                        case 6 -> passTime(random.nextInt(random.nextInt(4) == 0 ? 100 : 10));
                        case 7 -> {
                            long lease = 1 + random.nextInt(6);
                            passTime(0);
                            assertEquals(reference.keepAlive(lease), kv.store.keepAlive(lease));
                        }
                        case 8 -> {
                            kv.store.expireLeases();
                            reference.expire();
                        }
                        default -> {
                            submit(generator.command());
                            command++;
                        }
                    }
                    followTheWindow();
                    assertCounters();
                    if (random.nextInt(5) == 0) {
                        assertReads();
                    }
                }
                assertAllSnapshots();
                sweep();
                open.forEach(Snapshot::close);
                submit(new Command.Compact(reference.revision()));
                kv.assertNothingHeldButLiveKeys();
                assertPresent();
            }
        }

        private void submit(Command command) {
            passTime(0); // No two leases end at the same time, so that their order is known.
            assertEquals(reference.apply(command), kv.log.submit(command), command::toString);
        }

        private void passTime(long millis) {
            reference.nowNanos = kv.nanos.addAndGet(millis * 1_000_000 + 1);
        }

        private void openSnapshot(boolean older) {
            if (open.size() >= maxOpen) {
                return;
            }
            long revision = older ? generator.revision() : reference.revision();
            if (isInRange(revision)) {
                Snapshot snapshot = older ? kv.store.snapshot(revision) : kv.store.snapshot();
                assertEquals(revision, snapshot.revision());
                open.add(snapshot);
            } else {
                assertOutOfRange(() -> kv.store.snapshot(revision));
            }
        }

        private void sweep() {
            kv.store.sweep();
            reference.sweep();
            long compacted = kv.store.counters().compactRevision();
            assertTrue(reference.compacted <= compacted, "S13: the window keeps too much");
            assertTrue(compacted <= reference.mostCompacted, "S13: the window keeps too little");
            reference.compacted = compacted;
            kv.store.checkInvariants();
            long[] needed = reference.versionsNeeded(
                    open.stream().map(Snapshot::revision).toList());
            long versions = kv.store.counters().versions();
            assertTrue(
                    needed[0] <= versions && versions <= needed[1],
                    () -> "S6: " + versions + " versions, of which " + needed[0] + " are needed");
        }

        /** Commands compact as they go; how far, before all of it is swept, is up to them within these bounds. */
        private void followTheWindow() {
            long compactRevision = kv.store.counters().compactRevision();
            long compacted = reference.compacted;
            reference.sweep();
            assertTrue(compactRevision >= compacted, "S13: the compact revision has fallen");
            assertTrue(compactRevision <= reference.mostCompacted, "S13: given up though the window had room");
            reference.compacted = compactRevision;
        }

        private boolean isInRange(long revision) {
            return revision >= reference.compacted && revision <= reference.revision();
        }

        private void assertOutOfRange(Runnable read) {
            RevisionOutOfRangeException outOfRange = assertThrows(RevisionOutOfRangeException.class, read::run);
            assertEquals(kv.store.counters().compactRevision(), outOfRange.first());
            assertEquals(reference.revision(), outOfRange.last());
        }

        private void assertCounters() {
            TreeMap<Bytes, Entry> newest = reference.newest();
            Counters counters = kv.store.counters();
            assertEquals(reference.revision(), counters.revision());
            assertEquals(newest.size(), counters.keys());
            assertEquals(newest.keySet().stream().mapToLong(Bytes::length).sum(), counters.keyBytes());
            assertEquals(
                    newest.values().stream()
                            .mapToLong(entry -> entry.value().length())
                            .sum(),
                    counters.valueBytes());
            assertEquals(reference.sets, counters.sets());
            assertEquals(reference.dels, counters.dels());
            assertEquals(reference.txns, counters.txns());
            assertEquals(reference.gets, counters.gets());
            assertEquals(reference.sets + reference.dels + reference.gets, counters.commands());
            assertEquals(reference.leases.size(), counters.leases());
        }

        private void assertReads() {
            assertPresent();
            assertAllSnapshots();
            assertPast(generator.revision());
            assertDifferences();
            assertHistory(generator.key(), generator.revision());
            assertEquals(
                    reference.leases.keySet().stream().map(reference::status).toList(), kv.store.leases());
            long lease = 1 + random.nextInt(6);
            assertEquals(reference.status(lease), kv.store.lease(lease));
            kv.store.checkInvariants();
        }

        private void assertPresent() {
            long revision = reference.revision();
            assertEquals(new Reading(revision, reference.read(revision, keys)), kv.store.get(keys));
            assertEquals(reference.newest().get(keys.get(0)), kv.store.get(keys.get(0)));
            reference.gets += 2;
            try (Snapshot snapshot = kv.store.snapshot()) {
                assertEquals(revision, snapshot.revision());
                assertExact(snapshot);
            }
        }

        private void assertPast(long revision) {
            if (!isInRange(revision)) {
                assertOutOfRange(() -> kv.store.read(keys, revision));
                assertOutOfRange(() -> kv.store.snapshot(revision));
                return;
            }
            assertEquals(new Reading(revision, reference.read(revision, keys)), kv.store.read(keys, revision));
            try (Snapshot snapshot = kv.store.snapshot(revision)) {
                assertExact(snapshot);
            }
        }

        private void assertAllSnapshots() {
            for (Snapshot snapshot : open) {
                assertExact(snapshot);
            }
        }

        private void assertExact(Snapshot snapshot) {
            TreeMap<Bytes, Entry> expected = reference.revisions.get((int) snapshot.revision());
            assertEquals(reference.read(snapshot.revision(), keys), snapshot.get(keys));
            Range range = generator.range();
            List<Entry> inRange = in(expected, range);
            assertEquals(inRange, list(snapshot.scan(range, false)));
            assertEquals(inRange.reversed(), list(snapshot.scan(range, true)));
            assertEquals(inRange.size(), snapshot.count(range));
        }

        private void assertDifferences() {
            if (open.isEmpty()) {
                return;
            }
            Snapshot earlier = open.get(random.nextInt(open.size()));
            Snapshot later = open.get(random.nextInt(open.size()));
            Range range = generator.range();
            Map<Bytes, Entry> before = reference.revisions.get((int) earlier.revision());
            Map<Bytes, Entry> after = reference.revisions.get((int) later.revision());
            List<Difference> expected = new ArrayList<>();
            for (Bytes key : new TreeSet<>(keys)) {
                if (range.contains(key) && !Objects.equals(before.get(key), after.get(key))) {
                    expected.add(new Difference(before.get(key), after.get(key)));
                }
            }
            assertEquals(expected, list(later.differences(earlier, range)));
        }

        private void assertHistory(Bytes key, long from) {
            int max = 1 + random.nextInt(random.nextBoolean() ? 3 : 1_000);
            if (isInRange(from)) {
                assertEquals(reference.history(key, from, max), kv.store.history(key, from, max));
            } else {
                assertOutOfRange(() -> kv.store.history(key, from, max));
            }
        }
    }

    static <T> List<T> list(Iterator<T> iterator) {
        List<T> list = new ArrayList<>();
        iterator.forEachRemaining(list::add);
        return list;
    }

    // ---- Every history that is short enough ----

    /** S3, S6: every set of pins over every history of puts and deletions of one key that is short enough. */
    @Test
    void exactlyTheVersionsThatSomebodyCanReadAreKept() {
        int length = Harness.count(6, 8);
        for (int deletions = 0; deletions < 1 << length; deletions++) {
            for (int pins = 0; pins < 1 << length; pins++) {
                runHistory(length, deletions, pins);
            }
        }
    }

    private static void runHistory(int length, int deletions, int pins) {
        Bytes key = Harness.key(0);
        // Written every time, so that every step has a revision of its own.
        List<Bytes> keys = List.of(key, Harness.key(1));
        try (Harness kv = new Harness()) {
            Reference reference = new Reference(kv.store.limits());
            List<Snapshot> all = new ArrayList<>();
            for (int i = 0; i < length; i++) {
                Command command = Harness.set(
                        Harness.put(keys.get(1), Harness.value(i)),
                        (deletions & 1 << i) != 0 ? Harness.delete(key) : Harness.put(key, Harness.value(i)));
                assertEquals(reference.apply(command), kv.applied(command));
                all.add(kv.store.snapshot());
            }
            // Everything is held by now; what is not to stay pinned goes at once.
            List<Snapshot> open = new ArrayList<>();
            for (int i = 0; i < length; i++) {
                if ((pins & 1 << i) != 0) {
                    open.add(all.get(i));
                } else {
                    all.get(i).close();
                }
            }
            kv.store.sweep();
            kv.store.checkInvariants();
            reference.sweep();
            long[] needed = reference.versionsNeeded(
                    open.stream().map(Snapshot::revision).toList());
            assertEquals(needed[0], needed[1]);
            assertEquals(needed[0], kv.store.counters().versions());
            for (Snapshot snapshot : open) {
                assertEquals(reference.read(snapshot.revision(), keys), snapshot.get(keys));
                snapshot.close();
            }
            kv.assertNothingHeldButLiveKeys();
        }
    }
}
