namespace Z1Coder.Perf;

/// <summary>One request that the loopback teacher received.</summary>
/// <param name="Path">such as /v1/chat/completions</param>
/// <param name="Head">request line and headers</param>
/// <param name="Body">the JSON sent</param>
public sealed record LoopbackRequest(string Path, string Head, byte[] Body);
