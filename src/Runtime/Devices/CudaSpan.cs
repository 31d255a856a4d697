namespace Z1Coder.Runtime;

/// <summary>One kernel, copy or named range of a <see cref="CudaTrace"/>.</summary>
/// <param name="Name">kernel and constants, "copy to device", or the name of the range</param>
/// <param name="Stream">number of the stream, in order of its first span</param>
/// <param name="IsRange">whether it is a range around others</param>
/// <param name="StartMicroseconds">since the trace began</param>
/// <param name="Microseconds">duration</param>
public readonly record struct CudaSpan(string Name, int Stream, bool IsRange, double StartMicroseconds, double Microseconds);
