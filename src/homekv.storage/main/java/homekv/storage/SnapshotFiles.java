package homekv.storage;

import java.io.IOException;
import java.util.function.Consumer;

/** Writes the snapshot files of a directory, and deletes what they make superfluous. */
/*
 * A file gets its name once it has been forced, and counts once the directory has been forced. Only then is anything
 * deleted: the older snapshot files, and the segments that it holds everything of. A crash between any two of these
 * steps leaves a directory that recovers, to the same store.
 */
final class SnapshotFiles {
    private SnapshotFiles() {}

    /**
     * Writes the file that the header numbers. When this returns it is durable. If it fails nothing is left of it, but
     * if forcing the directory is what fails, the whole file may be there.
     *
     * @param goOn runs after every block, and once more before the file gets its name; what it throws ends the writing
     */
    static SnapshotFileInfo write(Disk disk, SnapshotSource source, SnapshotHeader header, Runnable goOn)
            throws IOException {
        String name = FileNames.snapshotFile(header.number());
        String unfinished = name + FileNames.UNFINISHED;
        if (disk.list().contains(unfinished)) {
            disk.delete(unfinished);
        }
        SnapshotFileInfo written;
        try {
            try (DiskFile file = disk.create(unfinished)) {
                written = SnapshotFileWriter.write(source, header, new DiskFileOutput(file), goOn);
                file.force();
            }
            goOn.run();
            disk.rename(unfinished, name);
        } catch (Throwable e) {
            try {
                if (disk.list().contains(unfinished)) {
                    disk.delete(unfinished);
                }
            } catch (Throwable again) {
                e.addSuppressed(again);
            }
            throw e;
        }
        disk.forceDirectory();
        return written;
    }

    /**
     * Deletes the segments and snapshot files before this number, for which there is a whole snapshot file. If one
     * cannot be deleted, nothing is lost but its room; it is tried again with the next snapshot file.
     */
    static void deleteOlder(Disk disk, long number, Consumer<String> notices) {
        try {
            for (String name : disk.list()) {
                long segment = FileNames.segmentNumber(name);
                long snapshotFile = FileNames.snapshotFileNumber(name);
                if (segment > 0 && segment < number || snapshotFile > 0 && snapshotFile < number) {
                    disk.delete(name);
                }
            }
            disk.forceDirectory();
        } catch (IOException e) {
            notices.accept("a file that is needed no more could not be deleted: " + Notices.reason(e)
                    + "; it is tried again with the next snapshot file");
        }
    }
}
