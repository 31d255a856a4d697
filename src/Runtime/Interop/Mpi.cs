namespace Z1Coder.Runtime;

/// <summary>The MPI of this process: looked for once, at first use. Under a launcher, the library of that launcher comes first.</summary>
internal static class Mpi
{
    /// <summary>A path to load instead of the loader's choice, or "off".</summary>
    public const string Variable = "Z1_MPI";

    private static readonly string[] s_openMpi = ["libmpi.so.40"], s_mpich = ["libmpich.so.12", "libmpi.so.12"];

    private static readonly Lazy<(MpiLibrary? Library, string Description)> s_found = new(() =>
        (TryLoad(Environment.GetEnvironmentVariable(Variable), UnderHydra, out var description), description));

    /// <summary>The library, or null when it is absent, unusable or switched off.</summary>
    public static MpiLibrary? Library => s_found.Value.Library;

    /// <summary>One sentence: version and path, or what to install.</summary>
    public static string Description => s_found.Value.Description;

    /// <summary>Started by MPICH's launcher or one that speaks its PMI, and not by Open MPI's.</summary>
    private static bool UnderHydra =>
        Environment.GetEnvironmentVariable("PMI_RANK") is not null && Environment.GetEnvironmentVariable("OMPI_COMM_WORLD_RANK") is null;

    /// <summary>Loads MPI from a path; null or empty leaves the choice to the loader, "off" loads nothing.</summary>
    public static MpiLibrary? TryLoad(string? chosen, bool mpichFirst, out string description)
    {
        string[] names = mpichFirst ? [.. s_mpich, .. s_openMpi] : [.. s_openMpi, .. s_mpich];
        var opened = NativeLibraries.OpenAs(chosen, Variable, names);
        if (opened.Handle == 0)
        {
            description = $"MPI: {opened.NameOrReason}; processes on CPUs reduce over tcp "
                + $"(install openmpi-bin or mpich, or set {Variable} to the path of libmpi.so.40 or libmpich.so.12).";
            return null;
        }

        var library = MpiLibrary.TryBind(opened, out var problem);
        description = library is null
            ? $"MPI: {opened.NameOrReason} cannot be used ({problem}); processes on CPUs reduce over tcp."
            : $"MPI: {library.Version} at {library.Path}.";
        return library;
    }
}
