package homekv.storage;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.NavigableSet;
import java.util.TreeSet;

/**
 * Which files there are in a data directory, by their names.
 *
 * @param segments the numbers of the segments
 * @param snapshotFiles the numbers of the snapshot files
 * @param unfinished names of the files that were being written when somebody stopped
 * @param others names of all others that have been found, but for the lock
 */
record DirectoryFiles(
        boolean hasIdentity,
        NavigableSet<Long> segments,
        NavigableSet<Long> snapshotFiles,
        List<String> unfinished,
        List<String> others) {

    /** Found in the root of many file systems. */
    private static final String LOST_AND_FOUND = "lost+found";

    /** Marks a directory into which a backup is being restored. */
    static final String RESTORING = "restore" + FileNames.UNFINISHED;

    static DirectoryFiles of(Disk disk) throws IOException {
        boolean hasIdentity = false;
        NavigableSet<Long> segments = new TreeSet<>();
        NavigableSet<Long> snapshotFiles = new TreeSet<>();
        List<String> unfinished = new ArrayList<>();
        List<String> others = new ArrayList<>();
        for (String name : disk.list()) {
            if (name.equals(FileNames.IDENTITY)) {
                hasIdentity = true;
            } else if (FileNames.segmentNumber(name) > 0) {
                segments.add(FileNames.segmentNumber(name));
            } else if (FileNames.snapshotFileNumber(name) > 0) {
                snapshotFiles.add(FileNames.snapshotFileNumber(name));
            } else if (isUnfinished(name)) {
                unfinished.add(name);
            } else if (!name.equals(FileNames.LOCK) && !name.equals(LOST_AND_FOUND)) {
                others.add(name);
            }
        }
        others.sort(null);
        return new DirectoryFiles(hasIdentity, segments, snapshotFiles, unfinished, others);
    }

    /** Whether this is the name of a file of ours that has not been finished, and not of somebody else's. */
    private static boolean isUnfinished(String name) {
        if (!name.endsWith(FileNames.UNFINISHED)) {
            return false;
        }
        String finished = name.substring(0, name.length() - FileNames.UNFINISHED.length());
        return name.equals(RESTORING)
                || finished.equals(FileNames.IDENTITY)
                || FileNames.segmentNumber(finished) > 0
                || FileNames.snapshotFileNumber(finished) > 0;
    }

    /** Whether a new store can be begun here: nothing is there, or no more than the very beginning of one. */
    boolean isNew() {
        return !hasIdentity
                && segments.isEmpty()
                && snapshotFiles.isEmpty()
                && others.isEmpty()
                && (unfinished.isEmpty() || unfinished.equals(List.of(FileNames.IDENTITY + FileNames.UNFINISHED)));
    }

    /** Whether what is there is what is left of a restore that was cut off. */
    boolean isUnfinishedRestore() {
        return !hasIdentity && unfinished.contains(RESTORING);
    }

    /** The names of all files of ours; what marks a restore comes last. */
    List<String> allOfOurs() {
        List<String> names = new ArrayList<>();
        segments.forEach(number -> names.add(FileNames.segment(number)));
        snapshotFiles.forEach(number -> names.add(FileNames.snapshotFile(number)));
        unfinished.stream().filter(name -> !name.equals(RESTORING)).forEach(names::add);
        unfinished.stream().filter(name -> name.equals(RESTORING)).forEach(names::add);
        return names;
    }

    /** The highest number of any segment or snapshot file; 0: there is none. */
    long highest() {
        return Math.max(segments.isEmpty() ? 0 : segments.last(), snapshotFiles.isEmpty() ? 0 : snapshotFiles.last());
    }

    List<Long> snapshotFilesNewestFirst() {
        return List.copyOf(snapshotFiles.descendingSet());
    }

    /** That a segment is missing from those that have to be there, or null. */
    DataDirectoryException missing(Disk disk, long from, long last) {
        for (long number = from; number <= last; number++) {
            if (!segments.contains(number)) {
                return DataDirectoryException.damaged(disk.path(FileNames.segment(number)) + " is missing", null);
            }
        }
        return null;
    }

    /** The error of a directory that does not say what it is. */
    DataDirectoryException noIdentity(Disk disk) {
        if (isNew()) {
            return new DataDirectoryException(disk.path("") + " is empty, so there is nothing to check");
        }
        if (isUnfinishedRestore()) {
            return new DataDirectoryException(
                    disk.path("") + " holds a restore that was not finished; restore the backup again");
        }
        if (!segments.isEmpty() || !snapshotFiles.isEmpty()) {
            return DataDirectoryException.damaged(disk.path(FileNames.IDENTITY) + " is missing", null);
        }
        return new DataDirectoryException(disk.path("") + " is not empty and has no file " + FileNames.IDENTITY
                + ", so it is no data directory; give one, or a new or an empty directory");
    }
}
