package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** A real directory does what a {@link Disk} promises. */
class FileDiskTest {
    @TempDir
    private Path temporary;

    private static byte[] read(DiskFile file, long position, int length) throws Exception {
        ByteBuffer into = ByteBuffer.allocate(length);
        while (into.hasRemaining() && file.read(into, position + into.position()) >= 0) {
            // A read may bring less than was asked for.
        }
        return Arrays.copyOf(into.array(), into.position());
    }

    @Test
    void aFileHasWhatWasAppendedToIt() throws Exception {
        Harness.seeded(5, random -> {
            Path directory = temporary.resolve("files-" + random.nextLong());
            byte[] bytes = LogRecords.bytes(random, 5 << 20).unsafeArray();
            try (FileDisk disk = FileDisk.open(directory)) {
                try (DiskFile file = disk.create("a")) {
                    int first = random.nextInt(bytes.length);
                    ByteBuffer from = ByteBuffer.wrap(bytes, 0, first);
                    file.append(from);
                    assertFalse(from.hasRemaining());
                    file.force();
                    file.append(ByteBuffer.wrap(bytes, first, bytes.length - first));
                    assertEquals(bytes.length, file.size());
                }
                try (DiskFile file = disk.open("a")) {
                    assertArrayEquals(bytes, read(file, 0, bytes.length + 1));
                    int at = random.nextInt(bytes.length);
                    int end = random.nextInt(at, bytes.length);
                    assertArrayEquals(Arrays.copyOfRange(bytes, at, end), read(file, at, end - at));
                    assertEquals(-1, file.read(ByteBuffer.allocate(1), bytes.length));
                    assertEquals(-1, file.read(ByteBuffer.allocate(1), bytes.length + 9));
                    assertEquals(0, file.read(ByteBuffer.allocate(0), 0));
                    file.truncate(at);
                    file.truncate(bytes.length);
                    assertEquals(at, file.size(), "truncating makes nothing longer");
                    file.append(ByteBuffer.wrap(new byte[] {1, 2, 3}));
                    assertArrayEquals(new byte[] {1, 2, 3}, read(file, at, 10));
                }
                try (DiskFile file = disk.open("a")) {
                    file.append(ByteBuffer.wrap(new byte[] {4}));
                    assertEquals(4, read(file, file.size() - 1, 1)[0]);
                }
            }
        });
    }

    @Test
    void namesAreGivenTakenAndReplaced() throws Exception {
        try (FileDisk disk = FileDisk.open(temporary)) {
            assertEquals(List.of(), disk.list());
            disk.create("a").close();
            assertThrows(FileAlreadyExistsException.class, () -> disk.create("a"));
            assertThrows(NoSuchFileException.class, () -> disk.open("b"));
            assertThrows(NoSuchFileException.class, () -> disk.delete("b"));
            assertThrows(NoSuchFileException.class, () -> disk.rename("b", "c"));
            try (DiskFile b = disk.create("b")) {
                b.append(ByteBuffer.wrap(new byte[7]));
                disk.rename("b", "a");
            }
            disk.forceDirectory();
            assertEquals(List.of("a"), disk.list());
            try (DiskFile a = disk.open("a")) {
                assertEquals(7, a.size());
            }
            disk.create("c").close();
            assertEquals(Set.of("a", "c"), new HashSet<>(disk.list()));
            disk.delete("a");
            assertEquals(List.of("c"), disk.list());
            assertTrue(disk.freeBytes() > 0);
            assertEquals(temporary.toRealPath().resolve("c").toString(), disk.path("c"));
        }
    }

    @Test
    void aDirectoryIsCreatedWithThoseAboveItAndForItsOwnerAlone() throws Exception {
        Path directory = temporary.resolve("a").resolve("b");
        assertThrows(NoSuchFileException.class, () -> FileDisk.openReadOnly(directory));
        try (FileDisk disk = FileDisk.open(directory)) {
            disk.create("file").close();
            assertTrue(disk.lock(false));
        }
        if (Files.getFileStore(temporary).supportsFileAttributeView("posix")) {
            for (String each : List.of("a", "a/b")) {
                assertEquals(
                        "rwx------",
                        PosixFilePermissions.toString(Files.getPosixFilePermissions(temporary.resolve(each))));
            }
            for (String each : List.of("file", FileNames.LOCK)) {
                assertEquals(
                        "rw-------",
                        PosixFilePermissions.toString(Files.getPosixFilePermissions(directory.resolve(each))));
            }
        }
    }

    @Test
    void errorsNameTheFileAndSayWhatIsWrongWithIt() throws Exception {
        Path file = Files.createFile(temporary.toRealPath().resolve("file"));
        Path missing = file.resolveSibling("missing");
        says(file + ": it is not a directory", () -> FileDisk.open(file));
        says(file + ": it is not a directory", () -> FileDisk.openReadOnly(file));
        says(missing + ": there is no such file or directory", () -> FileDisk.openReadOnly(missing));
        Files.createDirectory(missing.resolveSibling(FileNames.LOCK));
        try (FileDisk disk = FileDisk.open(temporary)) {
            says(missing + ": there is no such file or directory", () -> disk.open("missing"));
            says(missing + ": there is no such file or directory", () -> disk.delete("missing"));
            says(
                    missing + " -> " + file + ": there is no such file or directory",
                    () -> disk.rename("missing", "file"));
            says(file + ": the file is there already", () -> disk.create("file"));
            says(missing.resolveSibling(FileNames.LOCK) + ": ", () -> disk.lock(false));
        }
    }

    private static void says(String words, Executable action) {
        IOException e = assertThrows(IOException.class, action);
        assertTrue(e.getMessage().startsWith(words), e.getMessage());
        assertTrue(e.getMessage().length() > words.length() || !words.endsWith(" "), e.getMessage());
    }

    @Test
    void anErrorNamesTheFileAsItIsCalledNow() throws Exception {
        try (FileDisk disk = FileDisk.open(temporary);
                DiskFile file = disk.create("a.tmp")) {
            disk.rename("a.tmp", "a");
            assertEquals(disk.path("a"), file.toString());
            disk.create("a.tmp").close();
            disk.rename("a.tmp", "b");
            assertEquals(disk.path("a"), file.toString());
        }
    }

    @Test
    void readingOnlyChangesNothing() throws Exception {
        try (FileDisk disk = FileDisk.openReadOnly(temporary)) {
            assertTrue(disk.lock(true));
            assertThrows(NoSuchFileException.class, () -> disk.open("a"));
        }
        try (FileDisk disk = FileDisk.openReadOnly(temporary)) {
            assertTrue(disk.lock(true), "it was let go");
        }
        assertEquals(0, temporary.toFile().list().length);
    }

    @Test
    void theLockIsOnesAloneWithinAProcessAndBetweenTwo() throws Exception {
        try (FileDisk first = FileDisk.open(temporary)) {
            assertTrue(first.lock(false));
            assertChildGets(false, false);
            try (FileDisk second = FileDisk.open(temporary);
                    FileDisk reader = FileDisk.openReadOnly(temporary)) {
                assertFalse(second.lock(false));
                assertFalse(reader.lock(true));
            }
            assertChildGets(false, false); // A process that closes any channel of a file loses all its locks of it.
        }
        assertChildGets(true, true);
        try (FileDisk again = FileDisk.open(temporary)) {
            assertTrue(again.lock(false), "a process that ends lets go of its locks");
        }
    }

    @Test
    void aSharedLockKeepsOutOnlyThoseWhoWrite() throws Exception {
        assertChildGets(true, true);
        try (FileDisk reader = FileDisk.openReadOnly(temporary)) {
            assertTrue(reader.lock(true));
            assertChildGets(true, false);
        }
        assertChildGets(true, true);
    }

    private void assertChildGets(boolean shared, boolean exclusive) throws Exception {
        Harness.child(
                Locker.class, List.of(), temporary.toString(), Boolean.toString(shared), Boolean.toString(exclusive));
    }

    /** Looks which locks it gets, and ends without letting go of the last one. */
    static final class Locker {
        private Locker() {}

        public static void main(String[] arguments) throws Exception {
            Path directory = Path.of(arguments[0]);
            try (FileDisk disk = FileDisk.openReadOnly(directory)) {
                assertEquals(Boolean.parseBoolean(arguments[1]), disk.lock(true));
            }
            assertEquals(
                    Boolean.parseBoolean(arguments[2]), FileDisk.open(directory).lock(false));
        }
    }

    @Test
    void aReadOfOneMebibyteAtATimeTakesNoLargerDirectBuffer() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        byte[] bytes = LogRecords.bytes(random, 40 << 20).unsafeArray();
        Path file = temporary.resolve("bytes");
        Files.write(file, bytes);
        Harness.child(Copier.class, List.of("-XX:MaxDirectMemorySize=4m"), temporary.toString());
        assertEquals(-1, Files.mismatch(file, temporary.resolve("copy")));
    }

    /** Copies a file in one piece. */
    static final class Copier {
        private Copier() {}

        public static void main(String[] arguments) throws Exception {
            try (FileDisk disk = FileDisk.open(Path.of(arguments[0]));
                    DiskFile from = disk.open("bytes");
                    DiskFile to = disk.create("copy")) {
                to.append(ByteBuffer.wrap(read(from, 0, (int) from.size())));
                to.force();
            }
        }
    }

    // ---- The identity ----

    @Test
    void aDirectoryKnowsWhichStoreItIs() throws Exception {
        try (FileDisk disk = FileDisk.open(temporary)) {
            assertThrows(NoSuchFileException.class, () -> DirectoryIdentity.read(disk));
            DirectoryIdentity created = DirectoryIdentity.create(disk, 0x123456789abcdef0L);
            assertEquals(created, DirectoryIdentity.read(disk));
            assertEquals(List.of(FileNames.IDENTITY), disk.list());
        }
    }

    @Test
    void anIdentityWithAnyByteChangedOrMissingIsDamage() throws Exception {
        Path file = temporary.resolve(FileNames.IDENTITY);
        try (FileDisk disk = FileDisk.open(temporary)) {
            DirectoryIdentity.create(disk, 5);
            byte[] bytes = Files.readAllBytes(file);
            for (int i = 0; i <= bytes.length; i++) {
                byte[] changed = bytes.clone();
                if (i < bytes.length) {
                    changed[i] ^= 0x20;
                    Files.write(file, Arrays.copyOf(bytes, i));
                    assertTrue(assertThrows(DataDirectoryException.class, () -> DirectoryIdentity.read(disk))
                            .isDamage());
                } else {
                    changed = Arrays.copyOf(bytes, bytes.length + 1);
                }
                Files.write(file, changed);
                DataDirectoryException e =
                        assertThrows(DataDirectoryException.class, () -> DirectoryIdentity.read(disk));
                assertTrue(e.isDamage());
                assertTrue(e.getMessage().startsWith(file.toRealPath() + " at byte "), e::getMessage);
            }
        }
    }

    @Test
    void anIdentityIsThereWholeOrNotAtAllAfterACrashAtAnyOperation() throws Exception {
        Harness.seeded(200, random -> {
            SimulatedDisk disk = new SimulatedDisk(random);
            disk.crashAt(random.nextInt(6));
            boolean created = false;
            try {
                DirectoryIdentity.create(disk, 5);
                created = true;
            } catch (java.io.IOException e) {
                assertTrue(disk.isOver(), e::toString);
            }
            SimulatedDisk after = disk.crash();
            if (after.files().containsKey(FileNames.IDENTITY)) {
                assertEquals(5, DirectoryIdentity.read(after).storeIdentity());
            } else {
                assertFalse(created);
            }
        });
    }

    // ---- Names ----

    @Test
    void onlyTheNamesOfNumberedFilesHaveANumber() {
        assertEquals("log-00000000000000ff", FileNames.segment(255));
        assertEquals("snapshot-7fffffffffffffff", FileNames.snapshotFile(Long.MAX_VALUE));
        assertEquals(255, FileNames.segmentNumber("log-00000000000000ff"));
        assertEquals(Long.MAX_VALUE, FileNames.snapshotFileNumber("snapshot-7fffffffffffffff"));
        for (String name : List.of(
                "log-0000000000000000",
                "log-00000000000000FF",
                "log-00000000000000f",
                "log-00000000000000fff",
                "log-ffffffffffffffff",
                "log-00000000000000ff.tmp",
                "log-00000000000000ff.damaged",
                "snapshot-00000000000000ff",
                "log--000000000000001",
                "")) {
            assertEquals(-1, FileNames.segmentNumber(name), name);
        }
        assertEquals(-1, FileNames.snapshotFileNumber("log-00000000000000ff"));
        assertThrows(IllegalArgumentException.class, () -> FileNames.segment(0));
    }
}
