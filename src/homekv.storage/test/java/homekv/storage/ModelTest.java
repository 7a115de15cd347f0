package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/**
 * Random commands, snapshots and sweeps against a reference that keeps a full copy of the store for every revision:
 * S2 to S7 and S12, all at once.
 */
class ModelTest {
    /** The store as a person would write it who has all the memory in the world. */
    private static final class Reference {
        final List<TreeMap<Bytes, Entry>> revisions = new ArrayList<>(List.of(new TreeMap<>()));
        final Map<Bytes, TreeMap<Long, Boolean>> histories = new TreeMap<>();
        long sets;
        long dels;
        long gets;

        TreeMap<Bytes, Entry> newest() {
            return revisions.get(revisions.size() - 1);
        }

        Result.Applied apply(Command command) {
            Map<Bytes, Bytes> valuesByKey = new LinkedHashMap<>();
            switch (command) {
                case Command.Set set -> {
                    sets++;
                    for (Write write : set.writes()) {
                        valuesByKey.put(write.key(), write instanceof Write.Put put ? put.value() : null);
                    }
                }
                case Command.Del del -> {
                    dels++;
                    del.keys().forEach(key -> valuesByKey.put(key, null));
                }
            }
            TreeMap<Bytes, Entry> next = new TreeMap<>(newest());
            long revision = revisions.size();
            int deletedKeys = 0;
            boolean changed = false;
            for (Map.Entry<Bytes, Bytes> write : valuesByKey.entrySet()) {
                Bytes key = write.getKey();
                Entry last = next.get(key);
                if (write.getValue() != null) {
                    next.put(
                            key,
                            last == null
                                    ? new Entry(key, write.getValue(), revision, revision, 1)
                                    : new Entry(
                                            key,
                                            write.getValue(),
                                            last.createRevision(),
                                            revision,
                                            last.version() + 1));
                    histories.computeIfAbsent(key, k -> new TreeMap<>()).put(revision, true);
                    changed = true;
                } else if (last != null) {
                    next.remove(key);
                    histories.get(key).put(revision, false);
                    deletedKeys++;
                    changed = true;
                }
            }
            if (changed) {
                revisions.add(next);
            }
            return new Result.Applied(revisions.size() - 1, deletedKeys);
        }

        List<Entry> read(long revision, List<Bytes> keys) {
            return Arrays.asList(
                    keys.stream().map(revisions.get((int) revision)::get).toArray(Entry[]::new));
        }

        /**
         * S6: how many versions the present and these revisions read. A tombstone is read where a key is absent, and is
         * not needed where nothing older is: there the key is absent anyway.
         */
        long versionsRead(Iterable<Long> pinned) {
            long versions = 0;
            for (TreeMap<Long, Boolean> livesByRevision : histories.values()) {
                TreeMap<Long, Boolean> read = new TreeMap<>();
                put(read, livesByRevision.lastEntry());
                for (long revision : pinned) {
                    put(read, livesByRevision.floorEntry(revision));
                }
                while (!read.isEmpty() && !read.firstEntry().getValue()) {
                    read.pollFirstEntry();
                }
                versions += read.size();
            }
            return versions;
        }

        private static void put(TreeMap<Long, Boolean> read, Map.Entry<Long, Boolean> version) {
            if (version != null) {
                read.put(version.getKey(), version.getValue());
            }
        }
    }

    @Test
    void theStoreAnswersAsAReferenceThatCopiesEverything() throws Exception {
        Harness.seeded(Harness.count(60, 5_000), random -> run(random, 1 + random.nextInt(30), 400));
    }

    /** One key, so that chains become long and every pattern of pins over them comes up. */
    @Test
    void aSingleKeyAnswersAsAReferenceThatCopiesEverything() throws Exception {
        Harness.seeded(Harness.count(60, 5_000), random -> run(random, 1, 400));
    }

    private static void run(SplittableRandom random, int keyCount, int steps) {
        List<Bytes> keys = MvccStoreTest.keys(keyCount);
        int maxOpen = 1 + random.nextInt(40);
        try (Harness kv = new Harness()) {
            Reference reference = new Reference();
            List<Snapshot> open = new ArrayList<>();
            for (int step = 0; step < steps; step++) {
                switch (random.nextInt(10)) {
                    case 0, 1 -> {
                        if (open.size() < maxOpen) {
                            open.add(kv.store.snapshot());
                            assertEquals(
                                    reference.revisions.size() - 1,
                                    open.get(open.size() - 1).revision());
                        }
                    }
                    case 2 -> {
                        if (!open.isEmpty()) {
                            open.remove(random.nextInt(open.size())).close();
                        }
                    }
                    case 3 -> kv.store.sweep();
                    default -> {
                        Command command = MvccStoreTest.randomCommand(random, keys);
                        assertEquals(reference.apply(command), kv.applied(command));
                    }
                }
                assertCounters(reference, kv.store.counters());
                if (step % 7 == 0) {
                    assertAllSnapshots(reference, open, keys);
                    assertPresent(reference, kv.store, keys);
                    kv.store.checkInvariants();
                }
                if (step % 23 == 0) {
                    assertVersionsHeld(reference, kv, open);
                }
            }
            assertAllSnapshots(reference, open, keys);
            open.forEach(Snapshot::close);
            kv.assertNothingHeldButLiveKeys();
            assertPresent(reference, kv.store, keys);
        }
    }

    private static void assertCounters(Reference reference, Counters counters) {
        TreeMap<Bytes, Entry> newest = reference.newest();
        assertEquals(reference.revisions.size() - 1, counters.revision());
        assertEquals(newest.size(), counters.keys());
        assertEquals(newest.keySet().stream().mapToLong(Bytes::length).sum(), counters.keyBytes());
        assertEquals(
                newest.values().stream()
                        .mapToLong(entry -> entry.value().length())
                        .sum(),
                counters.valueBytes());
        assertEquals(reference.sets, counters.sets());
        assertEquals(reference.dels, counters.dels());
        assertEquals(reference.gets, counters.gets());
        assertEquals(reference.sets + reference.dels + reference.gets, counters.commands());
    }

    private static void assertAllSnapshots(Reference reference, List<Snapshot> open, List<Bytes> keys) {
        for (Snapshot snapshot : open) {
            assertEquals(reference.read(snapshot.revision(), keys), snapshot.get(keys));
        }
    }

    private static void assertPresent(Reference reference, MvccStore store, List<Bytes> keys) {
        long revision = reference.revisions.size() - 1;
        assertEquals(new Reading(revision, reference.read(revision, keys)), store.get(keys));
        assertEquals(reference.newest().get(keys.get(0)), store.get(keys.get(0)));
        reference.gets += 2;
    }

    /** S6 */
    private static void assertVersionsHeld(Reference reference, Harness kv, List<Snapshot> open) {
        kv.store.sweep();
        kv.store.checkInvariants();
        assertEquals(
                reference.versionsRead(open.stream().map(Snapshot::revision).toList()),
                kv.store.counters().versions());
    }

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
            Reference reference = new Reference();
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
            assertVersionsHeld(reference, kv, open);
            assertAllSnapshots(reference, open, keys);
            open.forEach(Snapshot::close);
            kv.assertNothingHeldButLiveKeys();
        }
    }
}
