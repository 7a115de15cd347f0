package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/** What the tests of durability stand on: the simulated disk keeps what was forced, and really loses the rest. */
class SimulatedDiskTest {
    private static final int SEEDS = 400;

    interface Body {
        void run(SimulatedDisk disk) throws IOException;
    }

    /** The states that power cuts leave of what the body does. */
    private static Set<Map<String, String>> left(Body body) throws IOException {
        Set<Map<String, String>> left = new HashSet<>();
        for (int seed = 0; seed < SEEDS; seed++) {
            SimulatedDisk disk = new SimulatedDisk(new SplittableRandom(seed));
            body.run(disk);
            left.add(text(disk.crash()));
        }
        return left;
    }

    private static Map<String, String> text(SimulatedDisk disk) {
        Map<String, String> text = new TreeMap<>();
        disk.files().forEach((name, bytes) -> text.put(name, new String(bytes, StandardCharsets.UTF_8)));
        return text;
    }

    private static ByteBuffer buffer(String text) {
        return ByteBuffer.wrap(Bytes.utf8(text).toByteArray());
    }

    private static DiskFile forced(SimulatedDisk disk, String name, String text) throws IOException {
        DiskFile file = disk.create(name);
        file.append(buffer(text));
        file.force();
        disk.forceDirectory();
        return file;
    }

    @Test
    void whatWasForcedStays() throws IOException {
        assertEquals(Set.of(Map.of("a", "one", "b", "two")), left(disk -> {
            forced(disk, "a", "one");
            forced(disk, "c", "two");
            disk.rename("c", "b");
            forced(disk, "d", "three");
            disk.delete("d");
            disk.forceDirectory();
        }));
    }

    @Test
    void anAppendThatWasNotForcedIsThereUpToAnyByteOrHasZerosOrNothing() throws IOException {
        Set<Map<String, String>> left = left(disk -> forced(disk, "a", "forced").append(buffer("++++")));
        for (String suffix : new String[] {"", "+", "++", "+++", "++++", "\0\0\0\0"}) {
            assertTrue(left.contains(Map.of("a", "forced" + suffix)), () -> suffix + ": " + left);
        }
        left.forEach(files -> assertTrue(files.get("a").matches("forced\\+{0,4}|forced\0{0,4}"), files::toString));
    }

    @Test
    void sectorsOfUnforcedAppendsAreLostIndependently() throws IOException {
        int sector = SimulatedDisk.SECTOR_BYTES;
        Set<Map<String, String>> left = left(disk -> {
            DiskFile file = forced(disk, "a", "x".repeat(sector));
            file.append(buffer("1".repeat(sector) + "2".repeat(sector)));
            file.append(buffer("3".repeat(sector)));
        });
        String zeros = "\0".repeat(sector);
        String first = "x".repeat(sector);
        assertTrue(left.contains(Map.of("a", first + zeros + "2".repeat(sector) + "3".repeat(sector))));
        assertTrue(left.contains(Map.of("a", first + "1".repeat(sector) + zeros + "3".repeat(sector))));
        assertTrue(left.contains(Map.of("a", first + zeros + zeros + "3".repeat(sector))));
        left.forEach(files -> assertTrue(files.get("a").startsWith(first)));
    }

    @Test
    void namesAndContentSurviveIndependently() throws IOException {
        Set<Map<String, String>> left = left(disk -> {
            forced(disk, "old", "o");
            forced(disk, "replaced", "r");
            DiskFile file = disk.create("new");
            file.append(buffer("n"));
            file.force();
            disk.rename("new", "replaced");
            disk.delete("old");
        });
        assertEquals(
                Set.of(
                        Map.of("old", "o", "replaced", "r"),
                        Map.of("old", "o", "replaced", "r", "new", "n"),
                        Map.of("replaced", "r"),
                        Map.of("replaced", "r", "new", "n"),
                        Map.of("old", "o", "replaced", "n"),
                        Map.of("replaced", "n")),
                left);
    }

    @Test
    void aTruncationThatWasNotForcedMayNotHaveHappened() throws IOException {
        Set<Map<String, String>> left = left(disk -> forced(disk, "a", "long").truncate(1));
        assertTrue(left.contains(Map.of("a", "long")));
        assertTrue(left.contains(Map.of("a", "l")));
    }

    /** The same, also where what was overwritten since was shorter, and forced at last. */
    @Test
    void truncatedAndAppendedAndForcedIsThere() throws IOException {
        assertEquals(Set.of(Map.of("a", "lap")), left(disk -> {
            DiskFile file = forced(disk, "a", "long");
            file.truncate(1);
            file.append(buffer("ap"));
            file.force();
        }));
    }

    @Test
    void afterAFailedForceTheNextOneSucceedsAndMayMeanNothing() throws IOException {
        Set<Map<String, String>> left = left(disk -> {
            DiskFile file = forced(disk, "a", "forced");
            file.append(buffer("+"));
            disk.failAt(SimulatedDisk.Operation.FORCE, 0);
            assertThrows(IOException.class, file::force);
            assertArrayEquals("forced+".getBytes(), disk.files().get("a"));
            file.force();
        });
        assertEquals(Set.of(Map.of("a", "forced"), Map.of("a", "forced+"), Map.of("a", "forced\0")), left);
    }

    @Test
    void aKilledProcessLosesNothingUntilThePowerIsCut() throws IOException {
        Set<Map<String, String>> left = left(disk -> {
            forced(disk, "a", "forced").append(buffer("+"));
            disk.delete("a");
            disk.create("b");
            SimulatedDisk next = disk.kill();
            assertEquals(Map.of("b", ""), text(next));
            left(next);
        });
        assertFalse(left.isEmpty());
    }

    private static void left(SimulatedDisk killed) throws IOException {
        DiskFile file = killed.open("b");
        file.append(buffer("2"));
        file.force();
        killed.forceDirectory();
        assertEquals(Map.of("b", "2"), text(killed.crash()));
    }

    @Test
    void afterAPowerCutOldHandlesFail() throws IOException {
        SimulatedDisk disk = new SimulatedDisk(new SplittableRandom(1));
        DiskFile file = forced(disk, "a", "x");
        disk.crashAt(1);
        file.append(buffer("y"));
        assertThrows(IOException.class, () -> file.append(buffer("z")));
        assertTrue(disk.isOver());
        SimulatedDisk next = disk.crash();
        assertThrows(IOException.class, () -> file.read(ByteBuffer.allocate(1), 0));
        assertThrows(IOException.class, file::force);
        assertThrows(IOException.class, () -> disk.create("b"));
        assertThrows(IOException.class, disk::list);
        assertTrue(next.lock(false));
        assertFalse(next.lock(false));
    }

    @Test
    void withoutRoomAnAppendIsDoneInPart() throws IOException {
        Set<Integer> lengths = new HashSet<>();
        for (int seed = 0; seed < SEEDS; seed++) {
            SimulatedDisk disk = new SimulatedDisk(new SplittableRandom(seed));
            DiskFile file = forced(disk, "a", "12");
            disk.limitTo(5);
            assertEquals(3, disk.freeBytes());
            assertThrows(IOException.class, () -> file.append(buffer("3456")));
            lengths.add((int) file.size());
        }
        assertEquals(Set.of(2, 3, 4, 5), lengths);
    }
}
