namespace Z1Coder.Runtime;

/// <summary>What clients and server of a <see cref="Rendezvous"/> tell each other. A frame is its length (4 bytes), the kind (1 byte), the
/// body.</summary>
internal enum RendezvousMessage : byte
{
    /// <summary>client: magic, rank, size, fingerprint, where</summary>
    Hello = 1,

    /// <summary>server, once all have joined: where of every rank</summary>
    Welcome,

    /// <summary>client: key, value</summary>
    Put,

    /// <summary>client: id, key; answered by Value when somebody has put it</summary>
    Get,

    /// <summary>server: id, value</summary>
    Value,

    /// <summary>client: id, key, value; answered by Values when every rank has brought one</summary>
    Exchange,

    /// <summary>server: id, value of every rank</summary>
    Values,

    /// <summary>either: reason; the job has failed</summary>
    Abort,

    /// <summary>client: an operation is overdue; its report</summary>
    TimedOut,

    /// <summary>server: send your report</summary>
    Collect,

    /// <summary>client: its report</summary>
    Report,

    /// <summary>either: the connection ends on purpose</summary>
    Goodbye,

    /// <summary>server: a rank that has said goodbye</summary>
    Left,
}
