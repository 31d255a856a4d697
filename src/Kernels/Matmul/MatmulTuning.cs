namespace Z1Coder.Kernels;

/// <summary>How algorithms of matrix products are chosen on CUDA streams.</summary>
public sealed record MatmulTuning
{
    /// <summary>
    /// Times the candidates at the first call of each shape and keeps the quickest. Without it the library's first guess is taken, which
    /// depends on the shape and the library's version alone; nothing is then read or written.
    /// </summary>
    public bool Search { get; init; }

    /// <summary>Where winners are kept between runs; null keeps them in memory only. Two runs that share it use the same algorithms, and
    /// so get the same bits; without it a search may decide otherwise the next time.</summary>
    public string? CacheDirectory { get; init; }

    /// <summary>Candidates to time per shape, 1 to 64.</summary>
    public int Candidates { get; init; } = 16;

    /// <summary>Told once of a directory that cannot be written, and of each shape that could not be timed.</summary>
    public Action<string> Warning { get; init; } = Console.Error.WriteLine;
}
