using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>
/// MPI_COMM_WORLD of this process. MPI is asked for MPI_THREAD_SERIALIZED: the threads of the groups take turns under one lock, and no call
/// under it waits for another rank. Open it on the main thread.
/// </summary>
/// <remarks>MPI begins once per process and ends with it: MPI_Finalize waits for the other ranks, so it is called when the process ends
/// with exit code 0. A process that has failed does not call it; its launcher then ends the other ranks.</remarks>
public sealed unsafe class MpiWorld
{
    private const int AddressBytes = 512, AddressTag = 1, NameTag = 2;

    private readonly MpiLibrary _library;
    private readonly Dictionary<int, string> _tags = [];
    private readonly Lock _gate = new();
    private readonly int _largestTag;
    private bool _failed;

    private MpiWorld(MpiLibrary library)
    {
        _library = library;
        (Rank, Size) = (library.Rank(), library.Size());
        _largestTag = Math.Min(library.LargestTag(), (1 << 28) - 1);
        AppDomain.CurrentDomain.ProcessExit += (_, _) => End();
    }

    /// <summary>Which MPI: Open MPI v4.1.4, say.</summary>
    public string Version => _library.Version;

    /// <summary>This process.</summary>
    public int Rank { get; }

    /// <summary>Processes in all.</summary>
    public int Size { get; }

    /// <summary>Whether MPI can be loaded; <paramref name="reason"/> is one sentence when not.</summary>
    public static bool IsAvailable(out string reason)
    {
        reason = Mpi.Library is null ? Mpi.Description : "";
        return Mpi.Library is not null;
    }

    /// <summary>Begins MPI.</summary>
    /// <exception cref="NotSupportedException">no MPI here, or one that cannot be used from several threads; one sentence</exception>
    public static MpiWorld Open()
    {
        var library = Mpi.Library ?? throw new NotSupportedException(Mpi.Description);
        try
        {
            if (library.IsInitialized)
            {
                throw new NotSupportedException($"{library.Version}: MPI has begun in this process already");
            }

            var provided = library.Initialize();
            if (provided < MpiLibrary.ThreadSerialized)
            {
                throw new NotSupportedException(
                    $"{library.Version} at {library.Path} provides thread level {provided}, and 2 (MPI_THREAD_SERIALIZED) is needed");
            }

            return new(library);
        }
        catch (MpiException e)
        {
            throw new NotSupportedException($"{library.Version} at {library.Path}: {e.Message}", e);
        }
    }

    /// <summary>Joins a <see cref="Rendezvous"/> whose address rank 0 chooses and MPI carries: for launchers that set no MASTER_ADDR. Every
    /// rank calls it.</summary>
    /// <param name="fingerprint">must be the same everywhere</param>
    /// <param name="options">time-outs</param>
    public Rendezvous Join(string fingerprint, CollectiveOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        var name = Environment.MachineName;
        var names = Gather(name, NameTag);
        var host = Array.TrueForAll(names, n => n == name) ? "127.0.0.1" : names[0];
        var server = Rank == 0 ? new RendezvousServer(host, 0, Size, fingerprint, options) : null;
        var port = Gather(server is null ? "" : $"{server.Port}", AddressTag)[0];
        return Rendezvous.Join(server, host, int.Parse(port, CultureInfo.InvariantCulture), Rank, Size, fingerprint, options);
    }

    /// <summary>The job has failed: MPI is left as it is, and its messages are not looked at again, since their memory may be
    /// gone.</summary>
    public void Fail()
    {
        lock (_gate)
        {
            _failed = true;
        }
    }

    /// <summary>Compares what MPI says with what another says.</summary>
    /// <exception cref="CollectiveException">they do not agree who this is</exception>
    internal void Expect(int rank, int size)
    {
        if ((Rank, Size) != (rank, size))
        {
            throw new CollectiveException(
                $"rank {rank} of {size} is rank {Rank} of {Size} to {Version}: "
                + "the launcher belongs to another MPI; set Z1_MPI to the path of its library");
        }
    }

    /// <summary>A tag for the messages of a group, the same on all its ranks, since it follows from the path.</summary>
    internal int TakeTag(string path)
    {
        var hash = 2166136261u;                                 // FNV-1a
        foreach (var b in Encoding.UTF8.GetBytes(path))
        {
            hash = unchecked((hash ^ b) * 16777619u);
        }

        var tag = (int)(hash % (uint)(_largestTag - 15)) + 16;
        lock (_gate)
        {
            return _tags.TryAdd(tag, path)
                ? tag
                : throw new CollectiveException($"rank {Rank}: the groups {_tags[tag]} and {path} have the same tag {tag} of MPI");
        }
    }

    /// <summary>The group of that tag is gone.</summary>
    internal void ReturnTag(int tag)
    {
        lock (_gate)
        {
            _tags.Remove(tag);
        }
    }

    /// <summary>Begins to send.</summary>
    internal void Send(byte* from, int bytes, int rank, int tag, nint* request)
    {
        lock (_gate)
        {
            *request = 0;
            _library.Send(from, bytes, rank, tag, request);
        }
    }

    /// <summary>Begins to receive.</summary>
    internal void Receive(byte* to, int bytes, int rank, int tag, nint* request)
    {
        lock (_gate)
        {
            *request = 0;
            _library.Receive(to, bytes, rank, tag, request);
        }
    }

    /// <summary>How many of the first <paramref name="count"/> requests are still under way; those that are done move to the end.</summary>
    internal int Test(nint* requests, int count)
    {
        lock (_gate)
        {
            for (var i = 0; i < count;)
            {
                if (_failed)
                {
                    throw new CollectiveException($"rank {Rank}: the job has failed");
                }

                if (_library.Test(requests + i))
                {
                    requests[i] = requests[--count];
                }
                else
                {
                    i++;
                }
            }

            return count;
        }
    }

    private void End()
    {
        if (Environment.ExitCode == 0 && _gate.TryEnter())
        {
            try
            {
                if (!_failed)
                {
                    _library.Finish();
                }
            }
            catch (MpiException e)
            {
                Console.Error.WriteLine($"z1: rank {Rank}: {e.Message}");
            }
            finally
            {
                _gate.Exit();
            }
        }
    }

    /// <summary>A short text of every rank, in their order, before there is anything else to send it with.</summary>
    private string[] Gather(string text, int tag)
    {
        var bytes = (nuint)(Size * AddressBytes);
        var all = (byte*)NativeMemory.AllocZeroed(bytes);
        var own = (byte*)NativeMemory.AllocZeroed(AddressBytes);
        var requests = (nint*)NativeMemory.AllocZeroed((nuint)(2 * Size * sizeof(nint)));
        Encoding.UTF8.GetBytes(text, new Span<byte>(own, AddressBytes - 1));
        new Span<byte>(own, AddressBytes).CopyTo(new(all + (Rank * AddressBytes), AddressBytes));
        var pending = 0;
        for (var r = 0; r < Size; r++)
        {
            if (r != Rank)
            {
                Receive(all + (r * AddressBytes), AddressBytes, r, tag, requests + pending++);
                Send(own, AddressBytes, r, tag, requests + pending++);
            }
        }

        for (var pause = new MpiPause(); (pending = Test(requests, pending)) > 0;)
        {
            pause.Once();
        }

        var texts = new string[Size];
        for (var r = 0; r < Size; r++)
        {
            texts[r] = Marshal.PtrToStringUTF8((nint)(all + (r * AddressBytes))) ?? "";
        }

        NativeMemory.Free(requests);
        NativeMemory.Free(own);
        NativeMemory.Free(all);
        return texts;
    }
}
