namespace Z1Coder.Runtime;

/// <summary>A library that was asked for: its handle, 0 when absent, and the name it answered to or the reason of its absence.</summary>
internal readonly record struct OpenedLibrary(nint Handle, string NameOrReason);
