package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

/** The table alone (S18): against a map, with keys that are like each other, and with hashes that are equal. */
class ChainTableTest {
    private static final byte[] VALUE = {1};

    private static VersionChain chain(ChainTable table, byte[] key) {
        VersionChain chain = new VersionChain(key, table.hash(key), 0);
        chain.value = VALUE;
        return chain;
    }

    private static byte[] key(int number) {
        return ByteBuffer.allocate(4).putInt(number).array();
    }

    private static void add(ChainTable table, VersionChain chain) {
        table.reserve(chain);
        table.add(chain);
    }

    @Test
    void agreesWithAMapWhateverIsAddedAndRemoved() throws Exception {
        Harness.seeded(Harness.count(5, 100), random -> {
            ChainTable table = new ChainTable();
            Map<Integer, Version> reference = new HashMap<>();
            int range = 1 << random.nextInt(2, 14);
            for (int i = 0; i < 40_000; i++) {
                // Phases in which it grows and shrinks.
                boolean grows = random.nextInt(10) < ((i / 8_000) % 2 == 0 ? 7 : 3);
                int number = random.nextInt(range);
                Version newest = reference.get(number);
                if (grows && newest == null) {
                    VersionChain chain = chain(table, key(number));
                    reference.put(number, chain);
                    add(table, chain);
                } else if (grows) {
                    // Back to the chain at times, as when a command is taken back.
                    Version next = random.nextInt(4) == 0 ? newest.chain() : Version.put(i, VALUE, 0, newest);
                    reference.put(number, next);
                    table.replace(newest, next);
                } else if (newest != null) {
                    VersionChain chain = newest.chain();
                    reference.remove(number);
                    assertTrue(table.remove(chain));
                    assertFalse(table.remove(chain));
                    assertTrue(!chain.isOverwritten() || table.newest(chain) == null);
                }
                int other = random.nextInt(range);
                Version found = table.find(key(other));
                assertSame(reference.get(other), found);
                assertSame(found, found == null ? null : table.newest(found.chain()));
                assertEquals(reference.size(), table.size());
            }
            for (int number = 0; number < range; number++) {
                assertSame(reference.get(number), table.find(key(number)));
            }
        });
    }

    @Test
    void keysOfEveryLengthThatDifferInOneBitAreToldApart() {
        ChainTable table = new ChainTable();
        List<VersionChain> chains = new ArrayList<>();
        for (int length = 0; length <= 70; length++) {
            chains.add(chain(table, new byte[length]));
            for (int bit = 0; bit < 8 * length; bit++) {
                byte[] key = new byte[length];
                key[bit / 8] = (byte) (1 << bit % 8);
                chains.add(chain(table, key));
            }
        }
        chains.forEach(chain -> add(table, chain));
        for (VersionChain chain : chains) {
            assertSame(chain, table.find(chain.key.clone()));
        }
        assertNull(table.find(new byte[71]));
    }

    /** The hash is given, so that all keys meet in one place, or in all but a few bits. */
    @Test
    void keysWithEqualHashesAreFoundAndTheDirectoryDoesNotGrowForThem() throws Exception {
        for (int different : new int[] {0, 1, 3 << 29, 3 << 15}) {
            ChainTable table = new ChainTable() {
                @Override
                int hash(byte[] key) {
                    return super.hash(key) & different | TAKEN;
                }
            };
            List<VersionChain> chains = new ArrayList<>();
            for (int i = 0; i < 3_000; i++) {
                chains.add(chain(table, key(i)));
                add(table, chains.get(i));
            }
            for (int i = 0; i < 3_000; i++) {
                assertSame(chains.get(i), table.find(key(i)));
                table.replace(chains.get(i), Version.put(1, VALUE, 0, chains.get(i)));
            }
            for (int i = 0; i < 3_000; i++) {
                assertSame(chains.get(i), table.find(key(i)).chain());
                assertSame(table.find(key(i)), table.newest(chains.get(i)));
            }
            assertTrue(table.directoryLength() <= 3_000 / 8, "the directory has " + table.directoryLength());
            for (int i = 0; i < 3_000; i += 2) {
                assertTrue(table.remove(chains.get(i)));
            }
            for (int i = 0; i < 3_000; i++) {
                Version found = table.find(key(i));
                assertSame(i % 2 == 0 ? null : chains.get(i), found == null ? null : found.chain());
            }
        }
    }

    /** What it takes follows what is in it, also when most has been removed. */
    @Test
    void aTableThatHasShrunkTakesLittle() {
        ChainTable table = new ChainTable();
        List<VersionChain> chains = new ArrayList<>();
        for (int i = 0; i < 100_000; i++) {
            chains.add(chain(table, key(i)));
            add(table, chains.get(i));
        }
        assertTrue(table.places() < 3 * 100_000, "places: " + table.places());
        for (int i = 1_000; i < 100_000; i++) {
            table.remove(chains.get(i));
        }
        assertTrue(table.places() < 8 * 1_000, "places: " + table.places());
    }

    /**
     * S18: readers look for keys that stay, while others come and go around them, so that segments are split and joined and
     * places used again.
     */
    @Test
    void aKeyThatStaysIsNeverMissedHoweverOthersComeAndGo() throws Exception {
        int stays = 4_000;
        int comes = 6_000;
        ChainTable table = new ChainTable();
        VersionChain[] chains = new VersionChain[stays + comes];
        for (int i = 0; i < chains.length; i++) {
            chains[i] = chain(table, key(i));
        }
        for (int i = 0; i < stays; i++) {
            add(table, chains[i]);
        }
        AtomicBoolean done = new AtomicBoolean();
        AtomicLong found = new AtomicLong();
        Harness.seeded(1, seeds -> {
            SplittableRandom random = seeds.split();
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int i = 0; i < 2; i++) {
                    SplittableRandom readers = seeds.split();
                    crew.start(() -> hammer(table, chains, stays, readers, done, found));
                }
                crew.start(() -> {
                    try {
                        boolean[] there = new boolean[chains.length];
                        int rounds = Harness.FULL ? 400 : 40;
                        for (int i = 0; i < rounds * comes; i++) {
                            boolean grows = i / (3 * comes) % 2 == 0;
                            int number = stays + random.nextInt(comes);
                            if (there[number] && !(grows && random.nextInt(4) > 0)) {
                                table.remove(chains[number]);
                                there[number] = false;
                            } else if (!there[number] && (grows || random.nextInt(4) == 0)) {
                                add(table, chains[number]);
                                there[number] = true;
                            }
                        }
                    } finally {
                        done.set(true);
                    }
                });
            }
        });
        assertTrue(found.get() > 0, "nobody has looked");
    }

    private static void hammer(
            ChainTable table,
            VersionChain[] chains,
            int stays,
            SplittableRandom random,
            AtomicBoolean done,
            AtomicLong found) {
        do {
            for (int i = 0; i < 1_000; i++) {
                int number = random.nextInt(stays);
                assertSame(chains[number], table.find(chains[number].key), "S18");
            }
            found.addAndGet(1_000);
        } while (!done.get());
    }

    /**
     * S18: readers look for what a revision that they have seen published sees, by the key and by the chain, while versions
     * are put, each key's second one among them, and others come and go around them. Revision r puts a version of key
     * {@code (r - 1) % stays}.
     */
    @Test
    void whatAPublishedRevisionSeesIsFoundHoweverTheTableChanges() throws Exception {
        int stays = 2_000;
        int comes = 4_000;
        AtomicLong found = new AtomicLong();
        Harness.seeded(Harness.count(40, 400), seeds -> {
            ChainTable table = new ChainTable();
            VersionChain[] chains = new VersionChain[stays + comes];
            for (int i = 0; i < chains.length; i++) {
                chains[i] = chain(table, key(i));
            }
            for (int i = 0; i < stays; i++) {
                add(table, chains[i]);
            }
            AtomicLong published = new AtomicLong();
            try (Harness.Crew crew = new Harness.Crew()) {
                Thread writer = crew.start(() -> {
                    for (int i = 0; i < 2 * comes; i++) {
                        Version newest = table.find(key(i % stays));
                        table.replace(newest, Version.put(i + 1, VALUE, 0, newest));
                        published.set(i + 1);
                        if (i < comes) {
                            add(table, chains[stays + i]);
                        } else {
                            assertTrue(table.remove(chains[stays + i - comes]));
                        }
                    }
                });
                for (int i = 0; i < 2; i++) {
                    SplittableRandom readers = seeds.split();
                    crew.start(() -> {
                        long looked = 0;
                        do {
                            long revision = published.get();
                            // Of those that have just been put most of the time.
                            int back = readers.nextInt(readers.nextInt(4) == 0 ? stays : 4);
                            int number = Math.floorMod(revision - 1 - back, stays);
                            long expected = Math.max(0, revision - back);
                            // Fetching ahead is no more than a hint, whatever it meets: also what comes and goes.
                            table.fetch(new byte[][] {
                                chains[number].key, chains[stays + readers.nextInt(comes)].key, key(-1)
                            });
                            Version byKey = Version.at(table.find(chains[number].key), revision);
                            assertEquals(expected, byKey.revision, "S18: by the key");
                            Version byChain = Version.at(table.newest(chains[number]), revision);
                            assertSame(byKey, byChain, "S18: by the chain");
                            looked++;
                        } while (writer.isAlive() && !crew.failed());
                        found.addAndGet(looked);
                    });
                }
            }
        });
        assertTrue(found.get() > 0, "nobody has looked");
    }
}
