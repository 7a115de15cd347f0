package homekv.storage;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/**
 * Makes a data directory of a backup. Its identity comes last, so that one that is not finished is no data directory, and
 * the log's first record is that of a log that was closed, so that leases have the time left that the backup says. In the
 * thread that calls; blocks until all of it is durable. Keeps nothing of the backup in memory but its leases.
 */
final class Restore {
    private final Disk disk;
    private final Consumer<String> notices;
    private final LongSupplier random;

    private Restore(Disk disk, Consumer<String> notices, LongSupplier random) {
        this.disk = disk;
        this.notices = notices;
        this.random = random;
    }

    /**
     * Into a directory that is empty, or holds a restore that was cut off. If it fails, the directory is empty again.
     * Closes the disk.
     *
     * @throws DataDirectoryException if the directory is in use or not empty, or the backup is not whole
     */
    static void run(Disk disk, InputStream backup, Consumer<String> notices, LongSupplier random) throws IOException {
        if (!disk.lock(false)) {
            throw Recovery.inUse(disk);
        }
        try (disk) {
            new Restore(disk, notices, random).run(backup);
        }
    }

    private void run(InputStream backup) throws IOException {
        DirectoryFiles files = DirectoryFiles.of(disk);
        if (!files.isNew() && !files.isUnfinishedRestore()) {
            throw new DataDirectoryException(
                    disk.path("") + " is not empty; a backup is restored into a new or an empty directory");
        }
        clear();
        disk.create(DirectoryFiles.RESTORING).close();
        disk.forceDirectory();
        try {
            write(backup, random.getAsLong());
        } catch (Throwable e) {
            try {
                if (!DirectoryFiles.of(disk).hasIdentity()) {
                    clear();
                }
            } catch (Throwable again) {
                e.addSuppressed(again);
            }
            throw e;
        }
        disk.delete(DirectoryFiles.RESTORING);
        disk.forceDirectory();
    }

    private void clear() throws IOException {
        for (String name : DirectoryFiles.of(disk).allOfOurs()) {
            disk.delete(name);
        }
    }

    private void write(InputStream backup, long identity) throws IOException {
        long historyId = random.getAsLong();
        String name = FileNames.snapshotFile(1);
        String unfinished = name + FileNames.UNFINISHED;
        List<LeaseLeft> leases = new ArrayList<>();
        SnapshotContents contents = new SnapshotContents(leases::add);
        SnapshotHeader header;
        try (DiskFile file = disk.create(unfinished)) {
            header = SnapshotFileReader.copy(
                    backup,
                    "the backup",
                    read -> new SnapshotHeader(identity, historyId, 1, read.revision(), 0, read.grants(), read.salt()),
                    contents,
                    new DiskFileOutput(file));
            file.force();
        } catch (DataDirectoryException e) {
            throw e.isDamage() ? new DataDirectoryException(e.finding() + "; restore another backup") : e;
        }
        disk.rename(unfinished, name);
        try (SegmentWriter segment = SegmentWriter.begin(
                disk, new SegmentHeader(identity, historyId, 1, 1, random.getAsLong(), Durability.FORCED))) {
            segment.add(new LogRecord.Closed(leases), 1, 0);
            segment.flush();
            segment.force();
        }
        DirectoryIdentity.create(disk, identity);
        notices.accept(String.format(
                Locale.ROOT,
                "restored %,d keys at revision %d into %s",
                contents.keys,
                header.revision(),
                disk.path("")));
    }
}
