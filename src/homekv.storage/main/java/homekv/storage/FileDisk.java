package homekv.storage;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileStore;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;

/**
 * A directory of the file system. What it creates only the owner of the process may read.
 */
/*
 * The lock is POSIX's, which a process loses as soon as it closes any channel of the file, whoever opened it. So a second
 * disk of the same process must not even open it while the first one has the lock: LOCKED is asked before.
 */
final class FileDisk implements Disk {
    /** Of one call of the kernel. Java copies through a direct buffer of this size, which it keeps for each thread. */
    private static final int PIECE_BYTES = 1 << 20;

    /** The directories that this process has locked. */
    private static final Set<Path> LOCKED = ConcurrentHashMap.newKeySet();

    private final Path directory;
    private final boolean readOnly;
    private final FileStore fileStore;
    private final FileAttribute<?>[] ownerOnly;
    private final Set<OpenFile> openFiles = ConcurrentHashMap.newKeySet();
    private FileChannel lockChannel;

    private FileDisk(Path directory, boolean readOnly) throws IOException {
        if (!Files.isDirectory(directory)) {
            throw Files.exists(directory, LinkOption.NOFOLLOW_LINKS)
                    ? new FileSystemException(directory.toString(), null, "it is not a directory")
                    : inWords(new NoSuchFileException(directory.toString()));
        }
        this.readOnly = readOnly;
        try {
            this.directory = directory.toRealPath();
            this.fileStore = Files.getFileStore(this.directory);
            this.ownerOnly = attributes(this.directory, "rw-------");
        } catch (FileSystemException e) {
            throw inWords(e);
        }
    }

    /** A directory to read and write; it is created if it is not there, durably. */
    static FileDisk open(Path directory) throws IOException {
        Deque<Path> missing = new ArrayDeque<>();
        for (Path each = directory.toAbsolutePath(); each != null && Files.notExists(each); each = each.getParent()) {
            missing.push(each);
        }
        for (Path each : missing) {
            try {
                Files.createDirectory(each, attributes(each.getParent(), "rwx------"));
            } catch (FileAlreadyExistsException e) {
                continue; // Somebody else was faster; if it is no directory, that is found below.
            } catch (FileSystemException e) {
                throw inWords(e);
            }
            force(each.getParent());
        }
        return new FileDisk(directory, false);
    }

    /** A directory that is there, of which nothing is changed. */
    static FileDisk openReadOnly(Path directory) throws IOException {
        return new FileDisk(directory, true);
    }

    private static FileAttribute<?>[] attributes(Path where, String permissions) throws IOException {
        return Files.getFileStore(where).supportsFileAttributeView("posix")
                ? new FileAttribute<?>[] {
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString(permissions))
                }
                : new FileAttribute<?>[0];
    }

    @Override
    public List<String> list() throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            List<String> names = new ArrayList<>();
            files.forEach(file -> names.add(file.getFileName().toString()));
            return names;
        } catch (UncheckedIOException e) {
            throw e.getCause();
        } catch (FileSystemException e) {
            throw inWords(e);
        }
    }

    @Override
    public DiskFile create(String name) throws IOException {
        return open(
                directory.resolve(name),
                Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.READ, StandardOpenOption.WRITE));
    }

    @Override
    public DiskFile open(String name) throws IOException {
        return open(
                directory.resolve(name),
                readOnly ? Set.of(StandardOpenOption.READ) : Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE));
    }

    private DiskFile open(Path file, Set<StandardOpenOption> options) throws IOException {
        FileChannel channel;
        try {
            channel = FileChannel.open(file, options, ownerOnly);
        } catch (FileSystemException e) {
            throw inWords(e);
        }
        try {
            OpenFile opened = new OpenFile(file, channel);
            openFiles.add(opened);
            return opened;
        } catch (Throwable e) {
            channel.close();
            throw e;
        }
    }

    @Override
    public void rename(String from, String to) throws IOException {
        Path old = directory.resolve(from);
        Path renamed = directory.resolve(to);
        try {
            Files.move(old, renamed, StandardCopyOption.ATOMIC_MOVE);
        } catch (FileSystemException e) {
            throw inWords(e);
        }
        for (OpenFile each : openFiles) {
            if (each.file.equals(old)) {
                each.file = renamed;
            }
        }
    }

    @Override
    public void delete(String name) throws IOException {
        try {
            Files.delete(directory.resolve(name));
        } catch (FileSystemException e) {
            throw inWords(e);
        }
    }

    @Override
    public void forceDirectory() throws IOException {
        force(directory);
    }

    private static void force(Path directory) throws IOException {
        try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
            channel.force(true);
        } catch (IOException e) {
            throw e instanceof FileSystemException other ? inWords(other) : named(directory, e);
        }
    }

    @Override
    public long freeBytes() throws IOException {
        return fileStore.getUsableSpace();
    }

    @Override
    public String path(String name) {
        return directory.resolve(name).toString();
    }

    @Override
    public boolean lock(boolean shared) throws IOException {
        if (!LOCKED.add(directory)) {
            return false;
        }
        FileChannel channel = null;
        FileLock lock = null;
        try {
            Path file = directory.resolve(FileNames.LOCK);
            if (readOnly && Files.notExists(file)) {
                return true; // Nobody has ever written here.
            }
            channel = readOnly
                    ? FileChannel.open(file, StandardOpenOption.READ)
                    : FileChannel.open(
                            file,
                            Set.of(StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE),
                            ownerOnly);
            lock = channel.tryLock(0, Long.MAX_VALUE, shared);
            return lock != null;
        } catch (OverlappingFileLockException e) {
            return false; // Somebody else in this process has locked the file by other means than this class.
        } catch (FileSystemException e) {
            throw inWords(e);
        } finally {
            if (lock != null) {
                lockChannel = channel;
            } else {
                LOCKED.remove(directory);
                if (channel != null) {
                    channel.close();
                }
            }
        }
    }

    @Override
    public void close() throws IOException {
        if (lockChannel != null) {
            try {
                lockChannel.close();
            } finally {
                lockChannel = null;
                LOCKED.remove(directory);
            }
        }
    }

    /** The error with the file's name in front, which those of channels leave out. */
    private static IOException named(Path file, IOException e) {
        String message = String.valueOf(e.getMessage());
        return message.contains(file.toString()) ? e : new IOException(file + ": " + message, e);
    }

    /** The error with what is wrong in its message, where the file system says that by the kind of error alone. */
    private static IOException inWords(FileSystemException e) {
        if (e.getReason() != null) {
            return e;
        }
        String file = e.getFile();
        FileSystemException told = switch (e) {
            case NoSuchFileException none ->
                new NoSuchFileException(file, e.getOtherFile(), "there is no such file or directory");
            case AccessDeniedException denied -> new AccessDeniedException(file, e.getOtherFile(), "permission denied");
            case FileAlreadyExistsException there ->
                new FileAlreadyExistsException(file, e.getOtherFile(), "the file is there already");
            default -> new FileSystemException(file, e.getOtherFile(), "the system gives no reason");
        };
        told.initCause(e);
        return told;
    }

    private final class OpenFile implements DiskFile {
        /** Where it lies now, for messages. */
        private volatile Path file;

        private final FileChannel channel;

        /** Where the next bytes go; kept here because a channel that appends cannot be positioned. */
        private long end;

        OpenFile(Path file, FileChannel channel) throws IOException {
            this.file = file;
            this.channel = channel;
            this.end = channel.size();
        }

        @Override
        public long size() throws IOException {
            return channel.size();
        }

        @Override
        public int read(ByteBuffer into, long position) throws IOException {
            int limit = into.limit();
            try {
                into.limit(Math.min(limit, into.position() + PIECE_BYTES));
                return channel.read(into, position);
            } catch (IOException e) {
                throw named(file, e);
            } finally {
                into.limit(limit);
            }
        }

        @Override
        public void append(ByteBuffer from) throws IOException {
            int length = from.remaining();
            try {
                write(from, end);
            } finally {
                end += length - from.remaining();
            }
        }

        @Override
        public void overwrite(ByteBuffer from, long position) throws IOException {
            write(from, position);
        }

        private void write(ByteBuffer from, long position) throws IOException {
            int limit = from.limit();
            try {
                for (long at = position; from.position() < limit; ) {
                    from.limit(Math.min(limit, from.position() + PIECE_BYTES));
                    at += channel.write(from, at);
                }
            } catch (IOException e) {
                throw named(file, e);
            } finally {
                from.limit(limit);
            }
        }

        @Override
        public void truncate(long size) throws IOException {
            try {
                channel.truncate(size);
                end = channel.size();
            } catch (IOException e) {
                throw named(file, e);
            }
        }

        @Override
        public void force() throws IOException {
            try {
                channel.force(false); // The size and where the bytes lie are included; only times are not.
            } catch (IOException e) {
                throw named(file, e);
            }
        }

        @Override
        public void close() throws IOException {
            openFiles.remove(this);
            channel.close();
        }

        @Override
        public String toString() {
            return file.toString();
        }
    }
}
