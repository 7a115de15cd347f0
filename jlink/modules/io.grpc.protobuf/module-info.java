module io.grpc.protobuf {
    requires com.google.common;
    requires transitive com.google.protobuf;
    requires transitive io.grpc;
    requires io.grpc.protobuf.lite;

    exports io.grpc.protobuf;
}
