package homekv.storage;

import java.util.List;

/** The program that the package documentation shows. */
final class EmbeddedExample {
    private EmbeddedExample() {}

    // @start region="program"
    public static void main(String[] args) {
        try (MvccStore store = new MvccStore(Limits.defaults())) {
            CommandLog log = new MemoryCommandLog(store);
            log.submit(Command.put(Bytes.utf8("ada"), Bytes.utf8("60")));
            try (Snapshot before = store.snapshot()) {
                log.submit(new Command.Set(List.of(
                        new Write.Put(Bytes.utf8("bob"), Bytes.utf8("40")), new Write.Delete(Bytes.utf8("ada")))));
                System.out.println(before.get(Bytes.utf8("ada")).value().utf8()); // 60
            }
            System.out.println(store.get(Bytes.utf8("ada"))); // null
        }
    }
    // @end
}
