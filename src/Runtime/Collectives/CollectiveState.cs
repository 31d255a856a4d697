namespace Z1Coder.Runtime;

/// <summary>How far an operation has come on one rank.</summary>
internal enum CollectiveState : byte
{
    Queued,
    Running,
    Done,
}
